#!/usr/bin/env python3
"""Run a command against a freshly started erlmcp-shard, then end the server.

usage: serve.py [--catalog demo|everything|FILE] [--binary PATH] [--log FILE] [--timeout S] -- COMMAND [ARG]...

Starts the built binary on two shards with port 0 everywhere, waits for its `ready` line, runs COMMAND with

    MCP_HTTP_URL   http://127.0.0.1:PORT/mcp      MCP_TCP_ADDR   127.0.0.1:PORT
    MCP_BASE_URL   http://127.0.0.1:PORT          MCP_ADMIN_URL  http://127.0.0.1:PORT
    MCP_BINARY     the binary, for clients that start one of their own over stdio
    MCP_CATALOG    the catalog it serves

and ends the server by its process id. Exit status: the command's; 124 if it took longer than --timeout (420 s); 70 if the
server did not start, died early, or did not end cleanly within ten seconds of SIGTERM. Ended by SIGTERM itself, it still
ends what it started. Needs nothing but Python's standard library.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30
END_TIMEOUT_S = 10
COMMAND_TIMEOUT_S = 420
LISTENING = re.compile(r"^listening (http|tcp|admin) (\S+:\d+)\s*$")


class ServerError(Exception):
    """The server did not start, died, or did not end when asked to."""


def end_on_sigterm() -> None:
    """Make SIGTERM an exception, so that every `with Server` ends its server on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def built_binary() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "erlmcp-shard"


def two_shards() -> list[str]:
    """Two shards on the first two CPUs we may use; on a single CPU, two shards on that one."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    arguments = ["--cores", "0-1" if cpus == [0, 1] else ",".join(map(str, cpus))]
    return arguments if len(cpus) == 2 else [*arguments, "--shards-per-core", "2"]


class Server:
    """One server process: `with Server("demo") as server:`."""

    def __init__(self, catalog: str = "demo", binary: Path | None = None, log: Path | None = None) -> None:
        self.catalog = catalog
        self.binary = Path(binary or built_binary())
        self.log = log
        self.addresses: dict[str, str] = {}
        self._lines: list[str] = []
        self._ready = threading.Event()

    def __enter__(self) -> "Server":
        if not self.binary.is_file():
            raise ServerError(f"{self.binary} is missing: run `cargo build --release` first")
        command = [str(self.binary), *two_shards(), "--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]
        command += ["--admin", "127.0.0.1:0", "--catalog", self.catalog]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready.wait(0.05):
            if self._process.poll() is not None or deadline < time.monotonic():
                self._kill()
                raise ServerError(f"no `ready` from {' '.join(command)}\n{self.tail()}")
        missing = {"http", "tcp", "admin"} - self.addresses.keys()
        if missing:
            self._kill()
            raise ServerError(f"ready, but no `listening` line for {', '.join(sorted(missing))}\n{self.tail()}")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        status = self._process.poll()
        if status is not None:
            self._reader.join(2)
            problem = f"the server died during the run (status {status})"
        else:
            self._process.send_signal(signal.SIGTERM)
            try:
                status = self._process.wait(END_TIMEOUT_S)
                clean = status in (0, -signal.SIGTERM)
                problem = None if clean else f"the server ended with status {status} after SIGTERM"
            except subprocess.TimeoutExpired:
                problem = f"the server was still there {END_TIMEOUT_S} s after SIGTERM"
                self._kill()
            self._reader.join(2)
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text("".join(self._lines))
        if problem is not None and kind is None:
            raise ServerError(f"{problem}\n{self.tail()}")
        if problem is not None:
            print(f"{problem}\n{self.tail()}", file=sys.stderr)

    @property
    def base_url(self) -> str:
        return f"http://{self.addresses['http']}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MCP_BASE_URL": self.base_url,
            "MCP_HTTP_URL": f"{self.base_url}/mcp",
            "MCP_TCP_ADDR": self.addresses["tcp"],
            "MCP_ADMIN_URL": f"http://{self.addresses['admin']}",
            "MCP_BINARY": str(self.binary),
            "MCP_CATALOG": self.catalog,
        }

    def tail(self, lines: int = 30) -> str:
        return "".join(f"    server: {line}" for line in self._lines[-lines:])

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.append(line if line.endswith("\n") else line + "\n")
            if found := LISTENING.match(line):
                self.addresses[found[1]] = found[2]
            elif line.strip() == "ready":
                self._ready.set()

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", default="demo")
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--log", type=Path, help="write what the server printed to this file")
    parser.add_argument("--timeout", type=float, default=COMMAND_TIMEOUT_S)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no COMMAND given")
    end_on_sigterm()
    try:
        with Server(options.catalog, options.binary, options.log) as server:
            environment = {**os.environ, **server.environment}
            return subprocess.run(command, env=environment, timeout=options.timeout, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"serve.py: not done after {options.timeout} s: {' '.join(command)}", file=sys.stderr)
        return 124
    except (ServerError, OSError) as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 70


if __name__ == "__main__":
    sys.exit(main())
