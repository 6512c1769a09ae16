"""The official Python server SDK under uvicorn, in its best set-up: uvloop and httptools, JSON responses, sessions on for
the legacy era (2026-07-28 has none), no access log.

usage: python server.py PORT

One process, one core; the SDK keeps sessions in memory.
"""

import sys

import uvicorn
from mcp.server import MCPServer

# A benchmark opens more sessions than the default of 10,000, and holds them and their connections idle for long.
IDLE_SECONDS = 3600

server = MCPServer("peer-python", log_level="WARNING")


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Answers with the text it is given"""
    return text


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    port = int(sys.argv[1])
    app = server.streamable_http_app(json_response=True, session_idle_timeout=IDLE_SECONDS, max_sessions=None)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=IDLE_SECONDS,
        backlog=1024,
    )
    listening = config.bind_socket()
    print(f"ready http://127.0.0.1:{listening.getsockname()[1]}/mcp", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
