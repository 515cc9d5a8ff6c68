"""The gate and the app read one request: what is served is what was authorised.

The readers here differ in all that parsers of headers and of JSON are known to differ in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import DEFAULT_NEGOTIATED_VERSION
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_adapter import Requirement, SessionGate, default_requirement
from tests.mcp_adapter.harness import (
    LEGACY,
    MODERN,
    RESOURCE,
    MemoryResolver,
    initialize,
    owner,
    principal,
    request,
)

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Sent:
    """One request as it leaves its client."""

    method: str
    headers: RawHeaders
    body: bytes = b""

    def with_headers(self, *headers: tuple[str, str]) -> Sent:
        more = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return Sent(self.method, [*self.headers, *more], self.body)


@dataclass
class Answer:
    """What comes back."""

    status: int = 0
    headers: RawHeaders = field(default_factory=list)
    body: bytes = b""

    def ids(self) -> list[str]:
        return [value.decode() for name, value in self.headers if name.lower() == b"mcp-session-id"]


@dataclass
class Watched:
    """A gate in front of an app, and what each of the two has read.

    Attributes:
        authorised: ``(method, params)`` of each call that the gate has asked the requirement for.
        seen: scope and body of what reached the app.
    """

    app: ASGIApp
    resolver: MemoryResolver = field(default_factory=MemoryResolver)
    authorised: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    seen: list[tuple[Scope, bytes]] = field(default_factory=list)

    def gate(self, *, stateful: bool) -> SessionGate:
        self.resolver.tokens = {"alice": principal("alice"), "bob": principal("bob")}
        return SessionGate(
            self._noted,
            resolver=self.resolver,
            resource=RESOURCE,
            requirement=self._requirement,
            stateful=stateful,
        )

    def _requirement(self, method: str, params: Mapping[str, Any]) -> Requirement | None:
        self.authorised.append((method, params))
        return default_requirement(method, params)

    async def _noted(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        events = [await receive()]
        self.seen.append((scope, b"".join(event.get("body", b"") for event in events)))

        async def again() -> Message:
            return events.pop(0) if events else await receive()

        await self.app(scope, again, send)


async def ask(app: ASGIApp, sent: Sent) -> Answer:
    """Send one request to an app, without a server that would mend it on the way."""
    answer = Answer()
    events: list[Message] = [{"type": "http.request", "body": sent.body, "more_body": False}]

    async def receive() -> Message:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "root_path": "",
        "headers": [(name, value) for name, value in sent.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, send)
    return answer


# How apps read.


def headers_read(raw: RawHeaders, name: str) -> set[str]:
    """What readers take for a header: the first, the last, all of them, with or without folding."""
    found: set[str] = set()
    for folded in (False, True):
        values = [value.decode("latin-1") for key, value in raw if _key(key, folded) == name]
        if values:
            found |= {values[0], values[-1], ", ".join(values), ",".join(values)}
    return found


def _key(name: bytes, folded: bool) -> str:
    lower = name.decode("latin-1").lower()
    return lower.replace("_", "-") if folded else lower


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def _without_case(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As Go's encoding/json: a member goes to the field of its name, whatever its case."""
    return {name.casefold(): value for name, value in pairs}


def bodies_read(raw: RawHeaders, body: bytes) -> list[Any]:
    """What parsers of JSON make of a body, those among them that go by its charset."""
    read = [json.loads(body)]
    read += [json.loads(body, object_pairs_hook=hook) for hook in (_first_wins, _without_case)]
    for content_type in headers_read(raw, "content-type"):
        _, _, charset = content_type.partition("charset=")
        read.append(json.loads(body.decode(charset or "utf-8")))
    return read


def calls_read(raw: RawHeaders, body: bytes) -> set[tuple[str, str]]:
    """``(method, name)`` of each call that some parser finds in a body."""
    found = set()
    for read in bodies_read(raw, body):
        for entry in read if isinstance(read, list) else [read]:
            if isinstance(entry, dict) and "method" in entry:
                found.add((entry["method"], _name(entry.get("params"))))
    return found


def names_read(raw: RawHeaders) -> set[str]:
    return {_key(name, folded) for name, _ in raw for folded in (False, True)}


def _name(params: object) -> str:
    if not isinstance(params, dict):
        return ""
    return str(params.get("name", params.get("uri", "")))


def check_agreement(watched: Watched, sent: Sent, answer: Answer) -> None:
    """What reached the app was authorised, however the app reads it."""
    calls, authorised = watched.resolver.calls, watched.authorised
    assert set(answer.ids()) <= set(watched.resolver.sessions)
    for scope, body in watched.seen:
        assert scope["method"] == sent.method
        assert sent.method in {"POST", "DELETE"}
        raw = scope["headers"]
        assert not headers_read(raw, "authorization")
        assert headers_read(raw, "mcp-session-id") <= {calls[0][1]} - {""}
        versions = headers_read(raw, "mcp-protocol-version") or {DEFAULT_NEGOTIATED_VERSION}
        assert len(versions) == 1
        assert versions <= set(KNOWN_PROTOCOL_VERSIONS)
        if versions == {MODERN}:
            assert calls[0][1] == ""
        if sent.method == "DELETE":
            assert body == b""
            assert [method for method, *_ in calls] == ["resolve", "revoke"]
            continue
        named = {(method, _name(params)) for method, params in authorised}
        assert calls_read(raw, body) == named
        assert headers_read(raw, "mcp-method") <= {method for method, _ in named}
        texts = {str(value) for _, params in authorised for value in params.values()}
        assert {_plain(value) for value in headers_read(raw, "mcp-name")} <= texts
        assert headers_read(raw, "content-type") == {"application/json"}
        assert headers_read(raw, "content-length") == {str(len(body))}
        for name in ("transfer-encoding", "content-encoding", "x-http-method-override"):
            assert not headers_read(raw, name)
        assert not any(name.startswith("x-authsvc-") for name in names_read(raw))


def _plain(value: str) -> str:
    if value.startswith("=?base64?"):
        return base64.b64decode(value[9:-2]).decode()
    return value


# What clients send.

VALUES = {
    "Mcp-Session-Id": ["alices", "bobs", "unknown", "", "alices, bobs"],
    "MCP-Protocol-Version": [
        *(LEGACY, MODERN, "2025-03-26", "2099-01-01", "", " " + MODERN, LEGACY + "\t"),
        *(f"{LEGACY}, {MODERN}", "2026-07-28\xa0", "DRAFT", "\xb2026-07-28"),
    ],
    "Authorization": ["Bearer alice", "Bearer bob", "Basic YTpi"],
    "Mcp-Method": ["ping", "tools/call", "tools/list", "initialize", "Ping"],
    "Mcp-Name": ["whoami", "public", "=?base64?d2hvYW1p?=", "=?base64?cHVibGlj?=", "=?base64?#?="],
    "Mcp-Param-Region": ["eu", "us"],
    "Content-Type": ["application/json", "application/json; charset=utf-7", "text/plain"],
    "Content-Length": ["0", "1"],
    "Content-Encoding": ["gzip", "identity"],
    "Transfer-Encoding": ["chunked"],
    "X-HTTP-Method-Override": ["DELETE"],
    "Last-Event-ID": ["1"],
    "X-Authsvc-Assertion": ["forged"],
    "X-Authsvc-Credentials": ["forged"],
}


def spelled(name: str) -> list[bytes]:
    lower = name.lower()
    return [text.encode() for text in (lower, lower, name, name.upper(), lower.replace("-", "_"))]


EXTRA = st.sampled_from(
    [
        (key, value.encode("latin-1"))
        for name, values in VALUES.items()
        for key in spelled(name)
        for value in values
    ]
)


def modern(
    method: str, params: Mapping[str, Any] | None = None, version: str = MODERN
) -> dict[str, Any]:
    meta = {VERSION_KEY: version, CAPABILITIES_KEY: {}}
    return request(method, {**(params or {}), "_meta": meta})


WHOAMI: Mapping[str, Any] = {"name": "whoami", "arguments": {}}
MESSAGES: list[Any] = [
    request("ping"),
    request("tools/list"),
    request("tools/call", WHOAMI),
    modern("tools/call", WHOAMI),
    modern("tools/call", WHOAMI),
    modern("server/discover"),
    modern("tools/list", version="2025-11-25"),
    modern("initialize"),
    initialize(),
    initialize(MODERN),
    [request("ping"), request("tools/call", WHOAMI)],
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 1, "result": {}},
    modern("tasks/get", {"taskId": "public"}),
]

TRICKY = [
    b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"whoami"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"whoami"}}',
    b'{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","params":{"name":"whoami"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"public","Name":"whoami"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","Params":{"name":"whoami"}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","param\u017f":{"name":"whoami"}}'.encode(),
    b'{"jsonrpc":"2.0","id":1,"method":"pi\\u006eg"}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping+ACI-,+ACI-method+ACI-:+ACI-tools/call"}',
    b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}',
    json.dumps(request("ping")).encode("utf-16"),
    b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    b"[]",
    b"",
]

BODIES = st.one_of(
    st.sampled_from(MESSAGES).map(lambda message: json.dumps(message).encode()),
    st.sampled_from(TRICKY),
)


def client_of(version: str, token: str, session: str) -> RawHeaders:
    """The headers of a client that does as it should."""
    pairs = {
        "mcp-protocol-version": version,
        "authorization": token and f"Bearer {token}",
        "mcp-session-id": session,
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "host": "127.0.0.1:8000",
    }
    return [(name.encode(), value.encode()) for name, value in pairs.items() if value]


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """A client's request, with up to three headers more than it should have."""
    version = draw(st.sampled_from(["", LEGACY, "2025-03-26", MODERN, MODERN]))
    headers = client_of(
        version,
        draw(st.sampled_from(["", "alice", "bob"])),
        draw(st.sampled_from(["", "alices", "bobs"])),
    )
    headers = draw(st.permutations(headers + draw(st.lists(EXTRA, max_size=3))))
    method = draw(
        st.sampled_from(["POST"] * 12 + ["DELETE", "GET", "PUT", "PATCH", "HEAD", "post"])
    )
    return Sent(method, headers, draw(BODIES))


# The apps.


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers everything, and names sessions that are not the request's."""
    headers = [(b"Mcp-Session-Id", b"bobs-other"), (b"mcp-session-id", b"minted")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def official(read: list[tuple[str, str | None]]) -> Starlette:
    server = MCPServer("official")

    @server.tool()
    async def whoami(ctx: Context) -> str:
        assert ctx.headers is not None
        read.append(("whoami", ctx.headers.get("mcp-session-id")))
        return "done"

    return server.streamable_http_app(stateless_http=True, json_response=True)


def fastmcp(read: list[tuple[str, str | None]]) -> Starlette:
    server = FastMCP("fastmcp")

    @server.tool
    async def whoami(ctx: FastContext) -> str:
        assert ctx.request_context is not None
        assert ctx.request_context.request is not None
        read.append(("whoami", ctx.request_context.request.headers.get("mcp-session-id")))
        return "done"

    return server.http_app(stateless_http=True, json_response=True)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


def begin(watched: Watched) -> None:
    """Forget what was; Alice and Bob have a session each."""
    watched.resolver.sessions = {"alices": owner("alice"), "bobs": owner("bob")}
    watched.resolver.calls = []
    watched.authorised = []
    watched.seen = []


@pytest.mark.parametrize("stateful", [True, False])
def test_a_plain_app_serves_what_was_authorised(portal: BlockingPortal, *, stateful: bool) -> None:
    watched = Watched(plain)
    gate = watched.gate(stateful=stateful)
    reached = 0

    @settings(max_examples=1000, deadline=None)
    @given(requests())
    def run(sent: Sent) -> None:
        nonlocal reached
        begin(watched)
        answer = portal.call(ask, gate, sent)
        reached += len(watched.seen)
        check_agreement(watched, sent, answer)

    run()
    assert reached > 100


@pytest.mark.parametrize("make", [official, fastmcp], ids=lambda make: make.__name__)
def test_a_frameworks_app_serves_what_was_authorised(
    portal: BlockingPortal, make: Callable[[list[tuple[str, str | None]]], Starlette]
) -> None:
    read: list[tuple[str, str | None]] = []
    app = make(read)
    watched = Watched(app)
    gate = watched.gate(stateful=False)

    @settings(max_examples=300, deadline=None)
    @given(requests())
    def run(sent: Sent) -> None:
        begin(watched)
        read.clear()
        answer = portal.call(ask, gate, sent)
        session = watched.resolver.calls[0][1] if watched.resolver.calls else ""
        expected = [
            (params["name"], session or None)
            for method, params in watched.authorised
            if method == "tools/call" and watched.seen
        ]
        assert read in ([], expected)
        check_agreement(watched, sent, answer)

    with portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        run()


# Each way by itself.


@pytest.fixture
def watched() -> Watched:
    watched = Watched(plain)
    begin(watched)
    return watched


def post(
    body: object, *, version: str = LEGACY, token: str = "alice", session: str = "alices"
) -> Sent:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Sent("POST", client_of(version, token, session), content)


BAD_VERSIONS = [
    *("2099-01-01", "", "DRAFT", "2025-11-25, 2026-07-28", "2026-07-28\xa0", "\xb2026-07-28"),
    *("2026-07-28;q=1", "2025-11-25\x0b"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("version", BAD_VERSIONS)
async def test_a_version_that_is_not_known_goes_no_further(
    watched: Watched, method: str, version: str, *, stateful: bool
) -> None:
    sent = Sent(method, client_of("", "alice", "alices"), json.dumps(request("ping")).encode())
    gate = SessionGate(
        watched._noted,
        resolver=watched.resolver,
        resource=RESOURCE,
        stateful=stateful,
        streams=stateful,
    )
    watched.resolver.tokens = {"alice": principal("alice")}

    answer = await ask(gate, sent.with_headers(("mcp-protocol-version", version)))

    assert watched.seen == []
    assert watched.resolver.calls == []
    if method == "GET" and not stateful:
        assert answer.status == 405
        return
    assert answer.status == 400
    content = json.loads(answer.body)
    assert content["id"] == (request("ping")["id"] if method == "POST" else None)
    error = content["error"]
    assert error["code"] == -32022
    assert error["data"]["supported"] == list(MODERN_PROTOCOL_VERSIONS)
    assert all(known in error["message"] for known in KNOWN_PROTOCOL_VERSIONS)


@pytest.mark.anyio
async def test_two_versions_go_no_further(watched: Watched) -> None:
    sent = post(request("ping")).with_headers(("mcp-protocol-version", LEGACY))

    answer = await ask(watched.gate(stateful=True), sent)

    assert (answer.status, watched.seen) == (400, [])


@pytest.mark.anyio
@pytest.mark.parametrize("stateful", [True, False])
async def test_no_session_of_anybodys_is_named_where_there_are_none(
    watched: Watched, *, stateful: bool
) -> None:
    """With a token of one's own, another's session id and the revision that knows no sessions."""
    sent = post(modern("tools/call", WHOAMI), version=MODERN, token="bob", session="alices")

    answer = await ask(watched.gate(stateful=stateful), sent)

    assert answer.status == 200
    ((scope, _),) = watched.seen
    assert not headers_read(scope["headers"], "mcp-session-id")


@pytest.mark.anyio
async def test_a_twin_of_a_header_by_its_underscore_goes_no_further(watched: Watched) -> None:
    sent = post(request("ping")).with_headers(
        ("mcp_session_id", "bobs"), ("Mcp_Protocol_Version", MODERN), ("content_type", "x/y")
    )

    answer = await ask(watched.gate(stateful=True), sent)

    check_agreement(watched, sent, answer)
    assert answer.status == 200


CLAIMED = [
    "x-authsvc-assertion",
    "X-Authsvc-Credentials",
    "x_authsvc_assertion",
    "x-authsvc_assertion",
    "X_AUTHSVC-",
    "x-authsvc-yet-to-come",
]


@pytest.mark.anyio
@pytest.mark.parametrize("name", CLAIMED)
async def test_nobody_else_tells_the_app_who_is_asking(watched: Watched, name: str) -> None:
    sent = post(request("ping")).with_headers((name, "forged"), ("x-authsvc", "of others"))

    answer = await ask(watched.gate(stateful=True), sent)

    assert answer.status == 200
    ((scope, _),) = watched.seen
    assert {it for it in names_read(scope["headers"]) if "authsvc" in it} == {"x-authsvc"}


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("stateful", [True, False])
async def test_no_answer_names_a_session_that_is_not_the_requests(
    watched: Watched, method: str, *, stateful: bool
) -> None:
    given = post(request("ping"))
    sent = Sent(method, given.headers, given.body)

    answer = await ask(watched.gate(stateful=stateful), sent)

    assert answer.ids() == []


@pytest.mark.anyio
async def test_an_answer_may_name_the_requests_own_session(watched: Watched) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Mcp-Session-Id", b"alices"), (b"x-other", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    watched.app = app

    answer = await ask(watched.gate(stateful=True), post(request("ping")))

    assert sorted(answer.headers) == [(b"mcp-session-id", b"alices"), (b"x-other", b"1")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ([("mcp-method", "ping")], 200),
        ([("mcp-method", "tools/list")], 400),
        ([("mcp-method", "Ping")], 400),
        ([("mcp-method", "ping"), ("mcp-method", "ping")], 400),
        ([("mcp-name", "whoami")], 400),
        ([("mcp-param-region", "eu"), ("mcp-param-region", "us")], 400),
        ([("content-type", "application/json")], 400),
        ([("content-encoding", "gzip")], 415),
        ([("content-length", "1"), ("transfer-encoding", "chunked")], 400),
    ],
)
async def test_what_is_given_twice_must_be_equal(
    watched: Watched, extra: list[tuple[str, str]], status: int
) -> None:
    sent = post(modern("ping"), version=MODERN).with_headers(*extra)

    answer = await ask(watched.gate(stateful=False), sent)

    assert (answer.status, len(watched.seen)) == (status, int(status == 200))
    check_agreement(watched, sent, answer)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("whoami", 200),
        ("=?base64?d2hvYW1p?=", 200),
        ("public", 400),
        ("=?base64?cHVibGlj?=", 400),
        ("=?base64?d2hvYW1p", 400),
        ("=?base64?d2hvYW1?=", 400),  # a character short
        ("=?base64?d2hv YW1p?=", 400),
        ("=?base64?/w==?=", 400),  # not UTF-8
        ("=?base64?d2hvYW1pMR==?=", 400),  # bits set that no byte has
    ],
)
async def test_the_name_beside_the_body_is_the_one_in_it(
    watched: Watched, name: str, status: int
) -> None:
    sent = post(modern("tools/call", WHOAMI), version=MODERN).with_headers(("mcp-name", name))

    answer = await ask(watched.gate(stateful=False), sent)

    assert answer.status == status
    if status == 400:
        assert json.loads(answer.body)["error"]["code"] == -32020


@pytest.mark.anyio
async def test_a_later_revision_opens_no_session(watched: Watched) -> None:
    answer = await ask(watched.gate(stateful=True), post(modern("initialize"), version=MODERN))

    assert (answer.status, watched.seen, answer.ids()) == (404, [], [])
    assert json.loads(answer.body)["error"]["code"] == -32601


@pytest.mark.anyio
@pytest.mark.parametrize("version", [LEGACY, "", MODERN])
async def test_the_body_names_the_headers_revision(watched: Watched, version: str) -> None:
    other = LEGACY if version == MODERN else MODERN

    answer = await ask(
        watched.gate(stateful=True), post(modern("ping", version=other), version=version)
    )

    assert (answer.status, watched.seen) == (400, [])
    assert json.loads(answer.body)["error"]["code"] == -32020


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body", [body for body in TRICKY if b"u006e" not in body and b"+" not in body]
)
async def test_a_body_of_two_readings_goes_no_further(watched: Watched, body: bytes) -> None:
    answer = await ask(watched.gate(stateful=True), post(body))

    assert (answer.status, watched.seen) == (400, [])


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "TRACE", "CONNECT", "post", "QUERY"])
async def test_no_other_method_reaches_the_app(watched: Watched, method: str) -> None:
    sent = Sent(method, client_of(LEGACY, "alice", "alices"))

    answer = await ask(watched.gate(stateful=True), sent)

    assert (answer.status, watched.seen) == (405, [])


@pytest.mark.anyio
async def test_no_web_socket_reaches_the_app(watched: Watched) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/mcp", "headers": [], "subprotocols": []}
    await watched.gate(stateful=True)(scope, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert watched.seen == []
