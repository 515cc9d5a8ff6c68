"""Requests of 2026-07-28 get the answers of the SDK's own entry, byte for byte.

Each request goes through two gates of the same kind: one in front of our transport, one in front of
the SDK's manager.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import anyio
import mcp_types as types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from starlette.types import ASGIApp, Message

from mcp_adapter import SessionGate
from mcp_adapter.transport.streamable import StreamableHttp
from tests.mcp_adapter.harness import MODERN, RESOURCE, MemoryResolver, principal
from tests.support.bounds import TIMEOUT_SECONDS

# Log messages are deprecated in this revision, and still sent.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
CLIENT = "io.modelcontextprotocol/clientInfo"
META: dict[str, Any] = {VERSION: MODERN, CAPABILITIES: {}}
MAX_BODY_BYTES = 2_000

ROUTED = {
    "type": "object",
    "properties": {
        "where": {"type": "string", "x-mcp-header": "Where"},
        "level": {"type": "integer", "x-mcp-header": "Level"},
    },
}
PLAIN = {"type": "object", "properties": {}}
TOOLS = ("plain", "routed", "progress", "log", "fail", "refuse", "odd code", "error", "invalid")


async def list_tools(ctx: ServerRequestContext[Any], params: object) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(name=name, input_schema=ROUTED if name == "routed" else PLAIN)
            for name in TOOLS
        ]
    )


async def call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> Any:  # noqa: ANN401 - one of them is no result
    match params.name:
        case "progress":
            for step in range(2):
                await ctx.session.report_progress(step, 2, "half a pair: \ud83d")
        case "log":
            await ctx.session.send_log_message("error", "said", related_request_id=ctx.request_id)
        case "fail":
            raise RuntimeError("a secret of the server")
        case "refuse":
            raise MCPError(types.INVALID_PARAMS, "not like that", {"why": "é"})
        case "odd code":
            raise MCPError(1, "of the server's own")
        case "invalid":
            return {"content": "no list"}
    text = f"{params.name} {params.arguments} {ctx.protocol_version} {ctx.session.client_params}"
    content = types.TextContent(type="text", text=f"{text} ☃")
    return types.CallToolResult(content=[content], is_error=params.name == "error")


async def custom(ctx: ServerRequestContext[Any], params: types.RequestParams) -> dict[str, Any]:
    return {"nothing": None, "at": datetime(2026, 1, 1, tzinfo=UTC), "inner": {"nothing": None}}


def server_of(kind: str) -> Server[Any]:
    """An MCP server whose tools' schemas are listed, looked up, or not to be had."""

    def schema(name: str) -> Mapping[str, Any] | None:
        return ROUTED if name == "routed" else None

    server: Server[Any] = Server(
        "same",
        version="1",
        on_list_tools=None if kind == "none" else list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=schema if kind == "looked up" else None,
    )
    server.add_request_handler("x/custom", types.RequestParams, custom)
    return server


@dataclass(frozen=True)
class Sent:
    """A request as it leaves its client. ``message`` is its body, as it is if it is bytes."""

    message: object
    headers: tuple[tuple[str, str], ...] = ()
    replaced: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        if isinstance(self.message, bytes):
            return self.message
        return json.dumps(self.message).encode()

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        message: Any = self.message if isinstance(self.message, dict) else {}
        params: Any = message.get("params")
        name = params.get("name") if isinstance(params, dict) else None
        usual: dict[str, Any] = {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "content-length": str(len(self.body)),
            "authorization": "Bearer alice-1",
            "mcp-protocol-version": MODERN,
            "mcp-method": message.get("method"),
            "mcp-name": name,
            **self.replaced,
        }
        lines = [item for item in usual.items() if isinstance(item[1], str)]
        return [(a.encode(), b.encode("latin-1", "replace")) for a, b in [*lines, *self.headers]]


@dataclass
class Answer:
    """What comes back."""

    status: int = 0
    headers: set[tuple[bytes, bytes]] = field(default_factory=set)
    body: bytes = b""


async def answer_of(app: ASGIApp, sent: Sent) -> Answer:
    """What ``app`` answers. The client stays connected."""
    answer = Answer()
    pending: list[Message] = [{"type": "http.request", "body": sent.body, "more_body": False}]

    async def receive() -> Message:
        if not pending:
            await anyio.sleep_forever()
        return pending.pop()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            # Of one connection, and what HTTP/1.1 does without it: the server's to say.
            answer.headers = {item for item in message["headers"] if item[0] != b"connection"}
        else:
            answer.body += message["body"]

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "root_path": "",
        "query_string": b"",
        "headers": sent.raw_headers(),
        "state": {},
    }
    with anyio.fail_after(TIMEOUT_SECONDS):
        await app(scope, receive, send)
    return answer


@dataclass
class Pair:
    """Both transports, each behind a gate.

    Attributes:
        served: how many requests ours has not left to the SDK's entry.
    """

    ours: ASGIApp
    sdk: ASGIApp
    served: int = 0

    async def same(self, sent: Sent) -> Answer:
        """The answer of both."""
        ours, theirs = await answer_of(self.ours, sent), await answer_of(self.sdk, sent)
        assert ours == theirs
        return ours


@asynccontextmanager
async def pair_of(kind: str = "looked up") -> AsyncIterator[Pair]:
    """Both transports around servers of one kind."""
    ours = StreamableHttp(server_of(kind), max_body_bytes=MAX_BODY_BYTES)
    manager = StreamableHTTPSessionManager(
        server_of(kind), stateless=True, max_request_body_size=MAX_BODY_BYTES
    )

    def gated(app: ASGIApp) -> SessionGate:
        resolver = MemoryResolver(tokens={"alice-1": principal("alice")})
        return SessionGate(app, resolver=resolver, resource=RESOURCE, requirement=lambda *_: None)

    pair = Pair(gated(ours), gated(manager.handle_request))
    serve = ours._single.serve

    async def counted(*args: Any) -> None:  # noqa: ANN401 - as it is called
        pair.served += 1
        await serve(*args)

    async with AsyncExitStack() as running:
        patch = running.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(ours._single, "serve", counted)
        await running.enter_async_context(ours.run())
        await running.enter_async_context(manager.run())
        yield pair


def request(method: str, params: object = None, **members: object) -> dict[str, Any]:
    """A request of this revision."""
    given = {"_meta": META, **params} if isinstance(params, dict) else params
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": given or {"_meta": META}}
    return message | members


def call(name: str, meta: Mapping[str, Any] = META, **arguments: object) -> dict[str, Any]:
    """A call of a tool."""
    return request("tools/call", {"name": name, "arguments": arguments, "_meta": meta})


ROUTED_CALL = Sent(call("routed", where="here", level=3))

SERVED = {
    **{f"tool {name}": Sent(call(name)) for name in TOOLS},
    "progress asked for": Sent(call("progress", {**META, "progressToken": "p"})),
    "log asked for": Sent(
        call("log", {**META, "io.modelcontextprotocol/logLevel": "debug", "progressToken": 1})
    ),
    "client named": Sent(call("plain", {**META, CLIENT: {"name": "c", "version": "1"}})),
    "client is odd": Sent(call("plain", {**META, CLIENT: 3})),
    "no such tool": Sent(call("nope")),
    "no name": Sent(request("tools/call", {"arguments": {}})),
    "arguments that are none": Sent(request("tools/call", {"name": "plain", "arguments": 3})),
    "listed": Sent(request("tools/list")),
    "discovered": Sent(request("server/discover")),
    "custom": Sent(request("x/custom")),
    "unknown": Sent(request("no/such")),
    "of the other era": Sent(request("ping")),
    "id is text": Sent(request("tools/list", id="☃")),
    "id is 0": Sent(request("tools/list", id=0)),
    "more members": Sent(request("tools/list", more=1)),
    "other header twice": Sent(request("tools/list"), (("x-other", "1"), ("x-other", "2"))),
    "accept anything": Sent(request("tools/list"), replaced={"accept": "*/*"}),
    "routed": Sent(
        call("routed", where="here", level=3),
        (("mcp-param-where", "here"), ("mcp-param-level", "3")),
    ),
    "routed, encoded": Sent(call("routed", where="é"), (("mcp-param-where", "=?base64?w6k=?="),)),
}
"""Requests that our transport serves."""

LEFT = {
    "routed, no headers": ROUTED_CALL,
    "routed, another value": replace(
        ROUTED_CALL, headers=(("mcp-param-where", "there"), ("mcp-param-level", "3"))
    ),
    "routed, too many": Sent(call("routed"), (("mcp-param-where", "here"),)),
    "accept one": Sent(request("tools/list"), replaced={"accept": "application/json"}),
    "accept none": Sent(request("tools/list"), replaced={"accept": None}),
    "no method header": Sent(request("tools/list"), replaced={"mcp-method": None}),
    "no name header": Sent(call("plain"), replaced={"mcp-name": None}),
    "no params": Sent({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}),
    "params that are none": Sent(request("tools/list") | {"params": [1]}),
    "no meta": Sent(request("tools/list") | {"params": {}}),
    "meta that is none": Sent(request("tools/list", {"_meta": 3})),
    "no version": Sent(request("tools/list", {"_meta": {CAPABILITIES: {}}})),
    "no capabilities": Sent(request("tools/list", {"_meta": {VERSION: MODERN}})),
    "notification": Sent({"jsonrpc": "2.0", "method": "notifications/cancelled"}),
    "odd notification": Sent({"jsonrpc": "1.0", "method": "notifications/cancelled"}),
    "response": Sent({"jsonrpc": "2.0", "id": 7, "result": {}}),
    "error": Sent({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": ""}}),
    "another JSON-RPC": Sent(request("tools/list", jsonrpc="1.0")),
    "no JSON-RPC": Sent({"id": 7, "method": "tools/list", "params": {"_meta": META}}),
    "nothing": Sent({}),
    "listen, wrong": Sent(request("subscriptions/listen", {"notifications": 3})),
}
"""Requests that it leaves to the SDK's entry."""

REFUSED = {
    "no JSON": Sent(b"{"),
    "batch": Sent([request("tools/list")]),
    "method twice": Sent(request("tools/list"), (("mcp-method", "tools/list"),)),
    "version twice": Sent(request("tools/list"), (("mcp-protocol-version", MODERN),)),
    "another version": Sent(request("tools/list"), replaced={"mcp-protocol-version": "2099-01-01"}),
    "another version in meta": Sent(request("tools/list", {"_meta": {**META, VERSION: "2099"}})),
    "another method": Sent(request("tools/list"), replaced={"mcp-method": "tools/call"}),
    "id is null": Sent(request("tools/list", id=None)),
    "initialize": Sent(request("initialize")),
}
"""Requests that the gate refuses."""


@pytest.mark.parametrize("sent", SERVED.values(), ids=SERVED)
async def test_what_is_served_here(sent: Sent) -> None:
    async with pair_of() as pair:
        answer = await pair.same(sent)

    assert answer.status
    assert pair.served == 1


@pytest.mark.parametrize("sent", LEFT.values(), ids=LEFT)
async def test_what_is_left_to_the_sdk(sent: Sent) -> None:
    async with pair_of() as pair:
        answer = await pair.same(sent)

    assert answer.status
    assert pair.served == 0


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_what_the_gate_refuses(sent: Sent) -> None:
    async with pair_of() as pair:
        answer = await pair.same(sent)

    assert answer.status >= 400
    assert pair.served == 0


@pytest.mark.parametrize("name", ["progress asked for", "log asked for"])
async def test_notifications_turn_the_answer_into_a_stream(name: str) -> None:
    async with pair_of() as pair:
        answer = await pair.same(SERVED[name])

    assert (b"content-type", b"text/event-stream") in answer.headers
    assert answer.body.count(b"event: message") == (3 if name.startswith("progress") else 2)


async def test_a_body_that_is_too_long_for_the_transport_alone() -> None:
    async with pair_of() as pair:
        answer = await pair.same(Sent(call("plain", text="x" * MAX_BODY_BYTES)))

    assert (answer.status, pair.served) == (413, 0)


@pytest.mark.parametrize("kind", ["listed", "none"])
@pytest.mark.parametrize("name", ["routed", "routed, encoded", "tool plain"])
async def test_schemas_come_from_where_the_sdk_takes_them(kind: str, name: str) -> None:
    wrong = replace(SERVED[name], headers=(("mcp-param-where", "nowhere"),))
    async with pair_of(kind) as pair:
        for sent in (SERVED[name], wrong):
            await pair.same(sent)

    assert pair.served == (1 if kind == "listed" and name.startswith("routed") else 2)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
metas = values | st.fixed_dictionaries(
    {VERSION: st.just(MODERN) | values, CAPABILITIES: st.just({}) | values},
    optional={
        CLIENT: values | st.just({"name": "c", "version": "1"}),
        "progressToken": values,
        "io.modelcontextprotocol/logLevel": st.sampled_from(["debug", "error"]) | values,
    },
)
arguments = values | st.fixed_dictionaries(
    {}, optional={"where": values | st.just("here"), "level": values | st.just(3)}
)
params_of = values | st.fixed_dictionaries(
    {"_meta": st.just(META) | metas},
    optional={"name": st.sampled_from(TOOLS) | values, "arguments": arguments, "cursor": values},
)
METHODS = (
    *("tools/call", "tools/list", "server/discover", "x/custom", "ping"),
    *("notifications/progress", "prompts/get", "completion/complete", "no/such"),
)
messages = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0") | values,
        "method": st.sampled_from(METHODS) | values,
        "params": params_of,
    },
    optional={"id": st.integers() | st.text(max_size=3) | values, "result": values},
)
header_values = st.sampled_from(
    ["here", "there", "3", "3.0", "=?base64?w6k=?=", "", MODERN, "tools/call", "*/*", "plain"]
) | st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=6)
NAMES = ("mcp-param-where", "mcp-param-level", "mcp-method", "mcp-name", "accept", "x-other")
requests = st.builds(
    Sent,
    messages,
    st.lists(st.tuples(st.sampled_from(NAMES), header_values), max_size=3).map(tuple),
    st.dictionaries(st.sampled_from(NAMES), st.none() | header_values, max_size=1),
)


@settings(max_examples=150)
@given(sent=requests, kind=st.sampled_from(["looked up", "listed", "none"]))
async def test_any_request(sent: Sent, kind: str) -> None:
    async with pair_of(kind) as pair:
        await pair.same(sent)
