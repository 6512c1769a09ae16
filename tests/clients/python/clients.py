#!/usr/bin/env python3
"""The official Python client against a running server, in both eras and over every transport it can speak.

usage: clients.py [--help]        (serve.py starts the server and sets the environment)

With MCP_CATALOG=demo: connect, list, call, progress, read, prompt, subscribe, errors, cancel, many at once, on
HTTP (discovered, pinned, legacy), HTTP+SSE (legacy), newline-delimited TCP (both) and stdio (both); and, by hand, that
a stdio server writes nothing but messages and ends when its input ends.
With MCP_CATALOG=everything: elicitation, sampling and roots asked for by a tool, a prompt that asks, list changes.

One line per check, `ok - section: name` or `not ok - …`; the last line is `python client (CATALOG): N passed, N failed`.
A section that cannot connect fails all its checks, so their number never depends on luck.
"""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.shared.message import SessionMessage

MODERN, LEGACY = "2026-07-28", "2025-11-25"
CHECK_TIMEOUT_S = 15
CONNECT_TIMEOUT_S = 20
INVALID_PARAMS, RESOURCE_NOT_FOUND = -32602, -32002

ENV = os.environ
URL = ENV.get("MCP_HTTP_URL", "")
CATALOG = ENV.get("MCP_CATALOG", "demo")


@asynccontextmanager
async def tcp_transport(address: str) -> AsyncIterator[Any]:
    """Newline-delimited JSON over TCP: the stdio framing on a socket, for the official client's own session machinery."""
    host, port = address.rsplit(":", 1)
    async with await anyio.connect_tcp(host, int(port)) as stream:
        incoming, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_send, outgoing = anyio.create_memory_object_stream[SessionMessage](0)

        async def read() -> None:
            buffer = b""
            async with incoming:
                try:
                    async for chunk in stream:
                        *lines, buffer = (buffer + chunk).split(b"\n")
                        for line in lines:
                            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                            await incoming.send(SessionMessage(message))
                except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                    pass

        async def write() -> None:
            async with outgoing:
                async for message in outgoing:
                    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await stream.send(text.encode() + b"\n")

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)
            yield received, to_send
            group.cancel_scope.cancel()


@dataclass
class Heard:
    """What one client was told or asked while it ran."""

    updated: list[str] = field(default_factory=list)
    tools_changed: int = 0
    asked: list[str] = field(default_factory=list)

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.updated.append(str(message.params.uri))
        elif isinstance(message, types.ToolListChangedNotification):
            self.tools_changed += 1

    async def elicit(self, _context: Any, params: Any) -> types.ElicitResult:
        self.asked.append("elicitation")
        wanted = params.requested_schema["properties"]
        content = {name: "Alice" for name, schema in wanted.items() if schema.get("type") == "string"}
        content |= {name: True for name, schema in wanted.items() if schema.get("type") == "boolean"}
        return types.ElicitResult(action="accept", content=content)

    async def sample(self, _context: Any, _params: Any) -> types.CreateMessageResult:
        self.asked.append("sampling")
        text = types.TextContent(type="text", text="Paris, says the client")
        return types.CreateMessageResult(role="assistant", content=text, model="test-model", stop_reason="endTurn")

    async def roots(self, _context: Any) -> types.ListRootsResult:
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri="file:///test/root", name="Test Root")])


@dataclass
class Section:
    """One way to reach the server: a transport and a mode. `open` makes a new client each time."""

    name: str
    mode: str
    server: Callable[[], Any]

    @property
    def modern(self) -> bool:
        return self.mode != "legacy"

    def open(self, heard: Heard) -> AbstractAsyncContextManager[Client]:
        return Client(
            self.server(),
            mode=self.mode,
            client_info=types.Implementation(name="erlmcp-shard-python-test", version="1"),
            message_handler=heard.message,
            elicitation_callback=heard.elicit,
            sampling_callback=heard.sample,
            list_roots_callback=heard.roots,
            read_timeout_seconds=CHECK_TIMEOUT_S,
        )


def expect(condition: object, otherwise: object) -> None:
    if not condition:
        raise AssertionError(str(otherwise))


async def until(condition: Callable[[], object], what: str, timeout_s: float = 5) -> None:
    with anyio.move_on_after(timeout_s):
        while not condition():
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"{what} within {timeout_s} s")


def text_of(result: types.CallToolResult) -> str:
    return "".join(block.text for block in result.content if block.type == "text")


async def code_of(call: Awaitable[Any]) -> int:
    try:
        answer = await call
    except MCPError as error:
        return error.code
    raise AssertionError(f"an error was expected, got {answer}")


@dataclass
class Run:
    """What a check works with: its section, a connected client, and what that client heard."""

    section: Section
    client: Client
    heard: Heard

    @asynccontextmanager
    async def other(self) -> AsyncIterator[Client]:
        """A second client of the same kind, on connections (and, over stdio, in a process) of its own."""
        async with self.section.open(Heard()) as client:
            yield client


async def negotiates(run: Run) -> None:
    wanted = MODERN if run.section.modern else LEGACY
    expect(run.client.protocol_version == wanted, f"negotiated {run.client.protocol_version}, not {wanted}")
    capabilities = run.client.server_capabilities
    if run.section.mode != MODERN:  # a pinned client never asks who the server is
        expect(run.client.server_info and run.client.server_info.name, "the server has no name")
        expect(capabilities.tools and capabilities.resources and capabilities.prompts, f"capabilities {capabilities}")


async def lists_tools(run: Run) -> None:
    tools = {tool.name: tool for tool in (await run.client.list_tools()).tools}
    expect({"echo", "add", "wait", "publish"} <= tools.keys(), f"tools {sorted(tools)}")
    expect(tools["add"].input_schema["properties"].keys() >= {"a", "b"}, f"schema {tools['add'].input_schema}")


async def calls_echo(run: Run) -> None:
    said = 'grüße \u2028 "quoted" \\ 日本 🦀'
    result = await run.client.call_tool("echo", {"text": said})
    expect(not result.is_error and text_of(result) == said, result)


async def calls_add(run: Run) -> None:
    result = await run.client.call_tool("add", {"a": 2, "b": 40})
    expect(not result.is_error and float(text_of(result)) == 42, result)
    expect(result.structured_content == {"sum": 42}, f"structuredContent {result.structured_content}")


async def hears_progress(run: Run) -> None:
    steps: list[float] = []

    async def step(progress: float, _total: float | None, _message: str | None) -> None:
        steps.append(progress)

    result = await run.client.call_tool("wait", {"ms": 400}, progress_callback=step)
    expect(not result.is_error, result)
    expect(len(steps) >= 1, "no progress was heard")
    expect(all(a < b for a, b in zip(steps, steps[1:], strict=False)), f"progress must strictly increase: {steps}")


async def reads_resources(run: Run) -> None:
    listed = {str(resource.uri) for resource in (await run.client.list_resources()).resources}
    expect({"demo://greeting", "demo://clock"} <= listed, f"resources {sorted(listed)}")
    content = (await run.client.read_resource("demo://greeting")).contents[0]
    expect(str(content.uri) == "demo://greeting" and content.text, content)


async def reads_a_template(run: Run) -> None:
    templates = {t.uri_template for t in (await run.client.list_resource_templates()).resource_templates}
    expect("demo://echo/{text}" in templates, f"templates {sorted(templates)}")
    content = (await run.client.read_resource("demo://echo/hello")).contents[0]
    expect(str(content.uri) == "demo://echo/hello" and "hello" in content.text, content)


async def gets_a_prompt(run: Run) -> None:
    listed = {prompt.name for prompt in (await run.client.list_prompts()).prompts}
    expect("greet" in listed, f"prompts {sorted(listed)}")
    prompt = await run.client.get_prompt("greet", {"name": "Ada"})
    expect(prompt.messages and "Ada" in prompt.messages[0].content.text, prompt)


async def hears_an_update(run: Run) -> None:
    uri = "demo://clock"
    if run.section.modern:
        async with run.client.listen(resource_subscriptions=[uri]) as subscription:
            await publish(run, uri)
            with anyio.fail_after(5):
                async for event in subscription:
                    expect(getattr(event, "uri", None) == uri, event)
                    break
    else:
        await run.client.subscribe_resource(uri)
        await publish(run, uri)
        await until(lambda: uri in run.heard.updated, "the update was not heard")


async def publish(run: Run, uri: str) -> None:
    result = await run.client.call_tool("publish", {"uri": uri})
    expect(not result.is_error, result)


async def hears_an_update_of_another_client(run: Run) -> None:
    """The publisher has connections of its own, which may well belong to the other shard."""
    uri = "demo://greeting"
    before = run.heard.updated.count(uri)
    async with run.other() as publisher:
        if run.section.modern:
            async with run.client.listen(resource_subscriptions=[uri]) as subscription:
                expect(not (await publisher.call_tool("publish", {"uri": uri})).is_error, "publish failed")
                with anyio.fail_after(5):
                    async for event in subscription:
                        expect(getattr(event, "uri", None) == uri, event)
                        break
        else:
            await run.client.subscribe_resource(uri)
            expect(not (await publisher.call_tool("publish", {"uri": uri})).is_error, "publish failed")
            await until(lambda: uri in run.heard.updated[before:], "the other client's update was not heard")


async def hears_nothing_after_unsubscribing(run: Run) -> None:
    uri = "demo://echo/quiet"
    if run.section.modern:
        async with run.client.listen(resource_subscriptions=["demo://echo/other"]) as subscription:
            await publish(run, uri)
            with anyio.move_on_after(0.4):
                async for event in subscription:
                    raise AssertionError(f"heard {event} without having asked for it")
    else:
        await run.client.subscribe_resource(uri)
        await run.client.unsubscribe_resource(uri)
        await publish(run, uri)
        await anyio.sleep(0.4)
        expect(uri not in run.heard.updated, "heard an update after unsubscribing")


async def refuses_what_is_unknown(run: Run) -> None:
    missing = RESOURCE_NOT_FOUND if not run.section.modern else INVALID_PARAMS
    expect((code := await code_of(run.client.call_tool("no-such-tool", {}))) == INVALID_PARAMS, f"tool: {code}")
    expect((code := await code_of(run.client.read_resource("demo://nowhere"))) == missing, f"resource: {code}")
    expect((code := await code_of(run.client.get_prompt("no-such-prompt"))) == INVALID_PARAMS, f"prompt: {code}")
    expect((code := await code_of(run.client.get_prompt("greet", {}))) == INVALID_PARAMS, f"argument: {code}")


async def tells_bad_arguments(run: Run) -> None:
    result = await run.client.call_tool("add", {"a": "two", "b": 40})
    expect(result.is_error and text_of(result), f"isError with a text was expected, got {result}")


async def survives_a_cancelled_call(run: Run) -> None:
    try:
        await run.client.call_tool("wait", {"ms": 30_000}, read_timeout_seconds=0.3)
        raise AssertionError("the call did not time out")
    except (MCPError, TimeoutError):
        pass
    expect(text_of(await run.client.call_tool("echo", {"text": "still here"})) == "still here", "no answer afterwards")


async def answers_many_at_once(run: Run) -> None:
    answers: dict[int, str] = {}

    async def one(number: int) -> None:
        name, arguments = ("echo", {"text": f"call {number}"}) if number % 3 else ("add", {"a": number, "b": 0})
        answers[number] = text_of(await run.client.call_tool(name, arguments))

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(one, number)
    wrong = {n: t for n, t in answers.items() if t != f"call {n}" and not (n % 3 == 0 and float(t) == n)}
    expect(len(answers) == 60 and not wrong, f"mixed up: {wrong}")


async def carries_a_large_message(run: Run) -> None:
    said = "0123456789abcdef" * 24_576  # 384 KiB: far more than one receive buffer
    expect(text_of(await run.client.call_tool("echo", {"text": said})) == said, "the text came back different")


async def answers_ping_or_discover(run: Run) -> None:
    if run.section.modern:
        discovered = types.DiscoverResult.model_validate(await run.client.session.send_discover(MODERN))
        expect(MODERN in discovered.supported_versions, discovered)
    else:
        await run.client.send_ping()


DEMO = [
    negotiates,
    lists_tools,
    calls_echo,
    calls_add,
    hears_progress,
    reads_resources,
    reads_a_template,
    gets_a_prompt,
    hears_an_update,
    hears_an_update_of_another_client,
    hears_nothing_after_unsubscribing,
    refuses_what_is_unknown,
    tells_bad_arguments,
    survives_a_cancelled_call,
    answers_many_at_once,
    carries_a_large_message,
    answers_ping_or_discover,
]


async def a_tool_asks_the_user(run: Run) -> None:
    result = await run.client.call_tool("test_input_required_result_elicitation", {})
    expect(not result.is_error and "Alice" in text_of(result), result)
    expect(run.heard.asked == ["elicitation"], f"asked {run.heard.asked}")


async def a_tool_asks_the_model(run: Run) -> None:
    result = await run.client.call_tool("test_input_required_result_sampling", {})
    expect(not result.is_error and text_of(result), result)
    expect(run.heard.asked == ["sampling"], f"asked {run.heard.asked}")


async def a_tool_asks_for_roots(run: Run) -> None:
    result = await run.client.call_tool("test_input_required_result_list_roots", {})
    expect(not result.is_error and text_of(result), result)
    expect(run.heard.asked == ["roots"], f"asked {run.heard.asked}")


async def a_tool_asks_everything_at_once(run: Run) -> None:
    result = await run.client.call_tool("test_input_required_result_multiple_inputs", {})
    expect(not result.is_error, result)
    expect(sorted(run.heard.asked) == ["elicitation", "roots", "sampling"], f"asked {run.heard.asked}")


async def a_tool_asks_twice(run: Run) -> None:
    result = await run.client.call_tool("test_input_required_result_multi_round", {})
    expect(not result.is_error, result)
    expect(run.heard.asked == ["elicitation", "elicitation"], f"asked {run.heard.asked}")


async def a_tool_keeps_its_state(run: Run) -> None:
    result = await run.client.call_tool("test_input_required_result_request_state", {})
    expect("state-ok" in text_of(result), result)


async def a_prompt_asks(run: Run) -> None:
    prompt = await run.client.get_prompt("test_input_required_result_prompt")
    expect(prompt.messages and run.heard.asked == ["elicitation"], f"{prompt}, asked {run.heard.asked}")


async def a_tool_fails_politely(run: Run) -> None:
    result = await run.client.call_tool("test_error_handling", {})
    expect(result.is_error and "intentionally" in text_of(result), result)


async def tools_change(run: Run) -> None:
    if run.section.modern:
        async with run.client.listen(tools_list_changed=True) as subscription, run.other() as other:
            await other.call_tool("test_trigger_tool_change", {})
            with anyio.fail_after(5):
                async for _event in subscription:
                    break
    else:
        async with run.other() as other:
            await other.call_tool("test_trigger_tool_change", {})
            await until(lambda: run.heard.tools_changed, "list_changed was not heard")


async def a_binary_resource_is_whole(run: Run) -> None:
    import base64

    content = (await run.client.read_resource("test://static-binary")).contents[0]
    expect(base64.b64decode(content.blob, validate=True).startswith(b"\x89PNG"), "not a PNG")


EVERYTHING = [
    a_tool_asks_the_user,
    a_tool_asks_the_model,
    a_tool_asks_for_roots,
    a_tool_asks_everything_at_once,
    a_tool_asks_twice,
    a_tool_keeps_its_state,
    a_prompt_asks,
    a_tool_fails_politely,
    tools_change,
    a_binary_resource_is_whole,
]
# Over stdio each client has a server process of its own, so nothing another client does can be heard.
NEEDS_ONE_SERVER = {hears_an_update_of_another_client, tools_change}


def sections() -> list[Section]:
    def stdio() -> StdioServerParameters:
        arguments = ["--stdio", "--catalog", CATALOG]
        return StdioServerParameters(command=ENV["MCP_BINARY"], args=arguments)

    return [
        Section("http discovered", "auto", lambda: URL),
        Section("http pinned", MODERN, lambda: URL),
        Section("http legacy", "legacy", lambda: URL),
        Section("http+sse legacy", "legacy", lambda: sse_client(f"{ENV['MCP_BASE_URL']}/sse")),
        Section("tcp discovered", "auto", lambda: tcp_transport(ENV["MCP_TCP_ADDR"])),
        Section("tcp legacy", "legacy", lambda: tcp_transport(ENV["MCP_TCP_ADDR"])),
        Section("stdio discovered", "auto", stdio),
        Section("stdio legacy", "legacy", stdio),
    ]


async def stdio_ends_with_its_input() -> tuple[int, int]:
    """What the clients hide, since they kill a server that does not leave: two checks without a client."""
    meta = {f"io.modelcontextprotocol/{key}": value for key, value in (("protocolVersion", MODERN), ("clientCapabilities", {}))}
    request = {"jsonrpc": "2.0", "id": "π", "method": "server/discover", "params": {"_meta": meta}}
    problems: dict[str, str | None] = {}
    command = [ENV["MCP_BINARY"], "--stdio", "--catalog", CATALOG]
    try:
        with anyio.fail_after(CHECK_TIMEOUT_S):
            done = await anyio.run_process(
                command, input=json.dumps(request).encode() + b"\n", check=False, stderr=subprocess.DEVNULL
            )
        problems["ends when its input ends"] = None if done.returncode == 0 else f"status {done.returncode}"
        try:
            answers = [json.loads(line) for line in done.stdout.splitlines()]
            expect([answer.get("id") for answer in answers] == ["π"] and "result" in answers[0], answers)
            problems["writes messages only"] = None
        except (ValueError, AssertionError) as error:
            problems["writes messages only"] = reason(error)
    except (TimeoutError, OSError) as error:
        problems = dict.fromkeys(["ends when its input ends", "writes messages only"], reason(error))
    return report("stdio by hand", problems)


def reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:600]


async def run_section(section: Section, checks: list[Callable[[Run], Awaitable[None]]]) -> tuple[int, int]:
    """Every check of `everything` gets a client of its own, since it counts questions; the demo checks share one."""
    verdicts: dict[str, str | None] = {}

    async def judge(check: Callable[[Run], Awaitable[None]], run: Run) -> None:
        try:
            with anyio.fail_after(CHECK_TIMEOUT_S):
                await check(run)
            verdicts[check.__name__] = None
        except Exception as error:  # a check fails by raising whatever it likes
            verdicts[check.__name__] = reason(error)

    batches = [checks] if CATALOG == "demo" else [[check] for check in checks]
    for batch in batches:
        heard = Heard()
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S + CHECK_TIMEOUT_S * len(batch)):
                async with section.open(heard) as client:
                    for check in batch:
                        await judge(check, Run(section, client, heard))
        except Exception as error:
            for check in batch:
                verdicts.setdefault(check.__name__, f"not connected: {reason(error)}")
            if all(verdicts[check.__name__] is None for check in batch):
                verdicts[batch[-1].__name__] = f"when closing: {reason(error)}"
    return report(section.name, verdicts)


def report(section: str, verdicts: dict[str, str | None]) -> tuple[int, int]:
    for name, problem in verdicts.items():
        title = f"python {section}: {name.replace('_', ' ')}"
        print(f"not ok - {title}: {problem}" if problem else f"ok - {title}", flush=True)
    failed = sum(problem is not None for problem in verdicts.values())
    return len(verdicts) - failed, failed


async def main() -> int:
    passed, failed = await stdio_ends_with_its_input()
    for section in sections():
        checks = DEMO if CATALOG == "demo" else EVERYTHING
        if section.name.startswith("stdio"):
            checks = [check for check in checks if check not in NEEDS_ONE_SERVER]
        more_passed, more_failed = await run_section(section, checks)
        passed, failed = passed + more_passed, failed + more_failed
    print(f"python client ({CATALOG}): {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:]:
        print(__doc__)
        sys.exit(0)
    warnings.simplefilter("ignore")  # subscribe_resource and send_ping are deprecated, and tested
    logging.disable(logging.CRITICAL)
    sys.exit(anyio.run(main))
