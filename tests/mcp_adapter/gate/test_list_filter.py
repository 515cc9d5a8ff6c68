"""Lists hold what their caller may call, whatever the app's response looks like, over real HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from authsvc.domain.rates import Rate, RateLimit, RatePer
from authsvc.http_auth import refusals
from mcp_adapter import Requirement, SessionGate, default_requirement
from mcp_adapter.gate import filtered_responses, list_filter
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    message_of,
    owner,
    request,
    revoke,
    running,
)
from tests.support.audited import Collected

pytestmark = pytest.mark.anyio

SECRET = "what the requirement has failed at"
OPEN, READ, WRITE = "public", "read", "write"
VISIBLE = {"": [OPEN], "alice-reader": [OPEN, READ], "alice-1": [OPEN, READ, WRITE]}
"""By token, the names that its holder may call."""

LISTS = [("tools", "name"), ("prompts", "name"), ("resources", "uri")]
CALLS = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
EVENTS = [(b"content-type", b"text/event-stream")]
AS_JSON = [(b"content-type", b"application/json")]


def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """Some are open, some fail, and the rest need scopes."""
    if method not in CALLS:
        return default_requirement(method, params)
    match params[CALLS[method]]:
        case "public":
            return None
        case "write":
            return Requirement(("things.read", "things.write"))
        case "fails":
            raise RuntimeError(SECRET)
        case "refuses":
            raise refusals.internal_error()
        case "mistaken":
            return "things.read"  # type: ignore[return-value] # the mistake
        case "any":
            return Requirement()
        case "limited":
            return Requirement(rate_limits=(RateLimit("calls", Rate(0.001, 1), RatePer.SUBJECT),))
    return Requirement(("things.read",))


def items(*names: str, parameter: str = "name") -> list[dict[str, Any]]:
    return [{parameter: name, "title": name.title(), "x": [1.5, None]} for name in names]


def listed(result: Mapping[str, Any], request_id: int = 7) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


ALL = listed({"tools": items(OPEN, READ, WRITE), "nextCursor": "n", "_meta": {"a": "é"}, "x": 1})


class App:
    """Sends what a test has it send.

    Attributes:
        status: of its responses.
        headers: likewise.
        pieces: bodies of them, one by one.
        messages: sent in place of all that, where there are any.
        scopes: of its requests.
        meeting: is joined between the pieces and the end.
        arrived: is set before that.
    """

    def __init__(self) -> None:
        self.status = 200
        self.headers: Sequence[tuple[bytes, bytes]] = AS_JSON
        self.pieces: Iterable[bytes] = []
        self.messages: list[Message] = []
        self.scopes: list[Scope] = []
        self.meeting = Meeting()
        self.arrived = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.scopes.append(scope)
        for message in self.messages:
            await send(message)
        if self.messages:
            return
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self.arrived.set()
        await self.meeting.join()
        await send({"type": "http.response.body", "body": b""})

    def answers(self, content: object) -> None:
        """Answer with JSON in one piece."""
        self.pieces = [json.dumps(content).encode()]


@pytest.fixture
def app() -> App:
    return App()


@asynccontextmanager
async def served(
    app: App,
    resolver: MemoryResolver,
    *,
    filter_lists: bool = True,
    stateful: bool = False,
    audit: Collected | None = None,
) -> AsyncIterator[Endpoint]:
    gate = SessionGate(
        app,
        resolver=resolver,
        resource=RESOURCE,
        requirement=requirement,
        stateful=stateful,
        streams=stateful,
        filter_lists=filter_lists,
        audit=audit,
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, Meeting())


@pytest.fixture
async def lists(app: App, resolver: MemoryResolver) -> AsyncIterator[Endpoint]:
    async with served(app, resolver) as endpoint:
        yield endpoint


@pytest.fixture
async def stateful(app: App, resolver: MemoryResolver) -> AsyncIterator[Endpoint]:
    resolver.sessions["a-session"] = owner("alice")
    async with served(app, resolver, stateful=True) as endpoint:
        yield endpoint


def names(result: Mapping[str, Any], member: str = "tools", parameter: str = "name") -> list[str]:
    return [item[parameter] for item in result[member]]


async def ask(endpoint: Endpoint, token: str = "alice-reader") -> httpx2.Response:
    return await endpoint.modern("tools/list", token=token or None)


async def result_of(endpoint: Endpoint, token: str = "alice-reader") -> Mapping[str, Any]:
    result = message_of(await ask(endpoint, token))["result"]
    assert isinstance(result, dict)
    return result


def check_refused(response: httpx2.Response) -> None:
    """An error stands in place of the list."""
    assert response.status_code == 500
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32603, "message": "Internal server error."},
    }


@pytest.mark.parametrize("token", VISIBLE)
@pytest.mark.parametrize(("member", "parameter"), LISTS)
async def test_a_list_has_what_its_caller_may_call(
    lists: Endpoint, app: App, member: str, parameter: str, token: str
) -> None:
    app.answers(listed({member: items(OPEN, READ, WRITE, parameter=parameter)}))

    response = await lists.modern(f"{member}/list", token=token or None)

    assert names(response.json()["result"], member, parameter) == VISIBLE[token]


async def test_lists_are_left_as_they_are_by_default(app: App, resolver: MemoryResolver) -> None:
    app.answers(ALL)
    app.headers = [*AS_JSON, (b"etag", b'"1"'), (b"cache-control", b"public")]

    async with served(app, resolver, filter_lists=False) as endpoint:
        response = await endpoint.modern("tools/list", headers={"Accept-Encoding": "gzip"})

    assert response.content == next(iter(app.pieces))
    assert (response.headers["etag"], response.headers["cache-control"]) == ('"1"', "public")
    assert (b"accept-encoding", b"gzip") in app.scopes[0]["headers"]


async def test_what_else_a_result_holds_is_kept(lists: Endpoint, app: App) -> None:
    app.answers(ALL)

    response = await ask(lists)

    expected = {**ALL["result"], "tools": items(OPEN, READ), "cacheScope": "private"}
    assert response.json() == listed(expected)
    assert response.headers["content-length"] == str(len(response.content))


async def test_a_page_without_anything_for_the_caller(lists: Endpoint, app: App) -> None:
    app.answers(listed({"tools": items(WRITE), "nextCursor": "more"}))

    result = await result_of(lists)

    assert (result["tools"], result["nextCursor"]) == ([], "more")


@pytest.mark.parametrize("hints", [{}, {"ttlMs": 1000, "cacheScope": "public"}, {"ttlMs": 5}])
async def test_a_list_is_cached_for_its_caller_alone(
    lists: Endpoint, app: App, hints: Mapping[str, Any]
) -> None:
    app.answers(listed({"tools": items(OPEN), **hints}))
    session = await opened(lists, app)

    modern = await result_of(lists)
    legacy = await lists.post(request("tools/list"), session=session)

    assert modern == {"tools": items(OPEN), **hints, "cacheScope": "private"}
    # Earlier revisions have no such hints: where the app sends some, they are corrected.
    scope = {"cacheScope": "private"} if hints else {}
    assert legacy.json()["result"] == {"tools": items(OPEN), **hints, **scope}


async def opened(endpoint: Endpoint, app: App) -> str:
    """A session of the revisions that have them."""
    endpoint.resolver.sessions["a-session"] = None
    return "a-session"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "private"),
        ([b"public, max-age=60"], "private, max-age=60"),
        ([b"s-maxage = 60 , no-transform", b"PUBLIC"], "private, no-transform"),
        ([b"no-store"], "private, no-store"),
        ([b'private="x-y", '], "private"),
    ],
)
async def test_http_caches_are_the_callers_too(
    lists: Endpoint, app: App, given: list[bytes], expected: str
) -> None:
    app.answers(ALL)
    shared = [(b"Surrogate-Control", b"max-age=60"), (b"cdn-cache-control", b"max-age=60")]
    app.headers = [*AS_JSON, *shared, *((b"Cache-Control", value) for value in given)]

    response = await ask(lists)

    assert response.headers.get_list("cache-control") == [expected]
    assert not {"surrogate-control", "cdn-cache-control"} & set(response.headers)


async def test_headers_about_the_unfiltered_content_are_dropped(lists: Endpoint, app: App) -> None:
    app.answers(ALL)
    length = str(len(next(iter(app.pieces)))).encode()
    about = [b"ETag", b"last-modified", b"accept-ranges", b"content-digest", b"repr-digest"]
    app.headers = [*AS_JSON, (b"Content-Length", length), *((name, b"x") for name in about)]

    response = await ask(lists)

    assert response.json()["result"]["tools"] == items(OPEN, READ)
    assert not {name.decode().lower() for name in about} & set(response.headers)


async def test_the_app_is_asked_for_a_whole_plain_response(lists: Endpoint, app: App) -> None:
    app.answers(ALL)
    plain = {"Accept-Encoding": "gzip, br", "If-None-Match": '"1"', "Range": "bytes=0-9"}

    await lists.modern("tools/list", headers={**plain, "Accept_Encoding": "gzip"})
    await lists.modern("tools/call", {"name": OPEN}, headers=plain)

    given, others = (dict(scope["headers"]) for scope in app.scopes)
    assert given[b"accept-encoding"] == b"identity"
    assert not {b"if-none-match", b"range", b"accept_encoding"} & set(given)
    assert others[b"accept-encoding"] == b"gzip, br"


async def test_json_in_pieces(lists: Endpoint, app: App) -> None:
    text = json.dumps(ALL).encode()
    app.pieces = [text[place : place + 3] for place in range(0, len(text), 3)]

    assert names(await result_of(lists)) == [OPEN, READ]


async def test_json_in_pieces_ends_with_its_caller(lists: Endpoint, app: App) -> None:
    app.answers(ALL)
    app.meeting.expected = 2
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(revoke_when, app, lists)
        response = await ask(lists, "alice-1")

    assert response.json()["error"]["data"] == {"reason": "TOKEN_REVOKED"}


async def revoke_when(app: App, endpoint: Endpoint) -> None:
    """Revoke the token of a request once the app holds its response."""
    await app.arrived.wait()
    revoke(endpoint, "")


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_an_event_stream_in_pieces(lists: Endpoint, app: App, size: int, end: str) -> None:
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
    changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    before = (
        f"id: 1\ndata:\n\n: ping\n\ndata: {json.dumps(progress)}\n\ndata: {json.dumps(changed)}\n\n"
    )
    lines = json.dumps(ALL, indent=1).replace("\n", "\ndata: ")
    text = f"{before}event: message\nid: 2\ndata: {lines}\n\n".replace("\n", end).encode()
    app.headers = EVENTS
    app.pieces = [text[place : place + size] for place in range(0, len(text), size)]

    response = await ask(lists)

    unchanged = before.replace("\n", end)
    assert response.text.startswith(unchanged)
    *_, data, _, _ = response.text.removeprefix(unchanged).split("\n")
    assert names(json.loads(data.removeprefix("data: "))["result"]) == [OPEN, READ]
    assert WRITE not in response.text
    assert "content-length" not in response.headers


async def test_an_event_without_an_end_is_filtered_too(lists: Endpoint, app: App) -> None:
    app.headers = EVENTS
    app.pieces = [b"data: " + json.dumps(ALL).encode()]

    assert names(await result_of(lists)) == [OPEN, READ]


async def test_the_last_event_in_the_last_piece(lists: Endpoint, app: App) -> None:
    event = b"data: " + json.dumps(ALL).encode() + b"\n\n"
    app.messages = [
        {"type": "http.response.start", "status": 200, "headers": EVENTS},
        {"type": "http.response.body", "body": event},
    ]

    assert names(await result_of(lists)) == [OPEN, READ]


async def test_a_batch(lists: Endpoint, app: App) -> None:
    error = {"jsonrpc": "2.0", "id": 3, "error": {"code": -1, "message": "tools"}}
    app.answers([ALL, listed({"prompts": items(WRITE)}, 2), error, "tools"])
    body = [request("tools/list"), request("prompts/list", request_id=2), request("ping", {}, 3)]
    session = await opened(lists, app)

    response = await lists.post(body, session=session, token="alice-reader", version="2025-03-26")

    first, second, *rest = response.json()
    assert names(first["result"]) == [OPEN, READ]
    assert second["result"] == {"prompts": []}
    assert rest == [error, "tools"]


@pytest.mark.parametrize(
    "answer",
    [
        {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": 'no "tools"'}},
        {"jsonrpc": "2.0", "id": 7, "result": {"resultType": "input_required", "x": "\u0001"}},
        {"jsonrpc": "2.0", "id": 7, "result": {"structuredContent": {"tools": [{"name": WRITE}]}}},
        {"jsonrpc": "2.0", "id": 7, "result": "tools"},
    ],
)
async def test_what_is_no_list_is_passed_on_as_it_is(
    lists: Endpoint, app: App, answer: object
) -> None:
    app.status = 400 if "error" in str(answer) else 200
    app.answers(answer)

    response = await ask(lists)

    assert response.content == next(iter(app.pieces))
    assert response.status_code == app.status


@pytest.mark.parametrize("status", [202, 204, 302, 404])
async def test_a_response_without_a_list_in_it(lists: Endpoint, app: App, status: int) -> None:
    app.status, app.headers = status, [(b"etag", b"1"), (b"content-type", b"text/plain")]
    app.pieces = [b"tools"] if status == 404 else []

    response = await ask(lists)

    assert (response.status_code, response.headers["etag"]) == (status, "1")
    assert response.content == b"".join(app.pieces)


async def test_what_has_no_name_is_not_listed(lists: Endpoint, app: App) -> None:
    app.answers(listed({"tools": [*items(OPEN), {}, {"name": 1}, "public", None, {"uri": OPEN}]}))

    assert names(await result_of(lists)) == [OPEN]


async def test_any_token_will_do_for_some(lists: Endpoint, app: App) -> None:
    app.answers(listed({"tools": items("any")}))

    assert names(await result_of(lists)) == ["any"]
    assert names(await result_of(lists, "")) == []


async def test_lists_count_towards_no_limit_of_calls(lists: Endpoint, app: App) -> None:
    app.answers(listed({"tools": items("limited")}))
    for _ in range(3):
        assert names(await result_of(lists)) == ["limited"]

    statuses = [
        (await lists.modern("tools/call", {"name": "limited"}, token="alice-reader")).status_code
        for _ in range(2)
    ]
    assert statuses == [200, 429]
    assert names(await result_of(lists)) == ["limited"]


async def test_where_the_requirement_fails_an_item_is_not_listed(
    lists: Endpoint, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.answers(listed({"tools": items("fails", OPEN, "mistaken", "refuses", "fails", READ)}))

    assert names(await result_of(lists)) == [OPEN, READ]
    assert names(await result_of(lists)) == [OPEN, READ]

    logged = [it.getMessage() for it in caplog.records if it.name == list_filter.__name__]
    assert len(logged) == 1
    assert logged[0].startswith("the requirement failed, so an item is not listed: RuntimeError")
    assert SECRET not in caplog.text


LIST = json.dumps(ALL).encode()
UNREADABLE = {
    "gzip": (gzip.compress(LIST), [*AS_JSON, (b"Content-Encoding", b"gzip")]),
    "gzip of events": (gzip.compress(LIST), [*EVENTS, (b"content-encoding", b"gzip")]),
    "text": (LIST, [(b"content-type", b"text/plain")]),
    "no type": (LIST, []),
    "two members": (b'{"result": {"tools": [], "tools": []}}', AS_JSON),
    "no JSON": (LIST + b"x", AS_JSON),
    "UTF-16": (json.dumps(ALL).encode("utf-16"), AS_JSON),
    "escaped": (LIST.replace(b'"tools"', b'"\\u0074ools"') + b"x", AS_JSON),
    "no list": (LIST.replace(b'"tools": [', b'"tools": 1, "y": ['), AS_JSON),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_cannot_be_filtered_is_not_sent(
    lists: Endpoint, app: App, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, app.headers = UNREADABLE[case]
    app.pieces = [body]

    check_refused(await ask(lists))
    check_refused(await ask(lists))

    logged = [it for it in caplog.records if it.name == list_filter.__name__]
    assert [it.levelname for it in logged] == ["ERROR"]
    assert logged[0].getMessage().startswith("a response is not sent, because its lists")


async def test_an_escaped_name_of_a_list_is_read(lists: Endpoint, app: App) -> None:
    app.pieces = [LIST.replace(b'"tools"', b'"\\u0074ools"')]

    assert names(await result_of(lists)) == [OPEN, READ]


async def test_content_that_says_that_it_is_plain(lists: Endpoint, app: App) -> None:
    app.answers(ALL)
    app.headers = [*AS_JSON, (b"content-encoding", b" Identity ")]

    assert names(await result_of(lists)) == [OPEN, READ]


async def test_a_list_that_is_too_long(
    lists: Endpoint, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtered_responses, "MAX_BYTES", 1000)
    text = json.dumps(listed({"tools": items(*[OPEN] * 20)})).encode()
    app.pieces = [text[place : place + 100] for place in range(0, len(text), 100)]

    check_refused(await ask(lists))
    app.headers = EVENTS
    app.pieces = [b"data: {}\n\n", b"data: " + text + b"\n\n", b"data: after\n\n"]
    response = await ask(lists)

    assert response.text.startswith("data: {}\n\nevent: message\r\ndata: ")
    assert "Internal server error." in response.text
    assert OPEN not in response.text
    assert "after" not in response.text


async def test_a_list_of_too_many(
    lists: Endpoint, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_filter, "MAX_ITEMS", 2)
    app.answers(listed({"tools": items(OPEN, OPEN)}))
    assert names(await result_of(lists)) == [OPEN, OPEN]

    app.answers(listed({"tools": items(OPEN, OPEN, OPEN)}))
    check_refused(await ask(lists))


async def test_a_stream_ends_at_what_cannot_be_filtered(lists: Endpoint, app: App) -> None:
    app.headers = EVENTS
    app.pieces = [b'data: {"tools"\n\n']
    assert message_of(await ask(lists))["error"]["code"] == -32603
    progress = b'data: {"method": "notifications/progress"}\n\n'
    app.pieces = [progress + b'data: {"tools"\n\n' + progress, progress]

    response = await ask(lists)

    (first, last, rest) = response.content.split(b"\n\n", 1)[0], response.text.splitlines()[3], ""
    assert first + b"\n\n" == progress
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "Internal server error."
    assert response.text.count("progress") == 1 + len(rest)


@pytest.mark.parametrize("kind", ["pathsend", "zerocopysend"])
async def test_a_file_is_not_sent(lists: Endpoint, app: App, kind: str) -> None:
    app.messages = [
        {"type": "http.response.start", "status": 200, "headers": AS_JSON},
        {"type": f"http.response.{kind}", "path": "/dev/null", "file": 0},
    ]

    check_refused(await ask(lists))


async def test_ways_to_answer_past_the_filter_are_not_offered(app: App) -> None:
    names_of = ("pathsend", "zerocopysend", "trailers", "debug")
    scope = {"headers": [], "extensions": {f"http.response.{name}": {} for name in names_of}}

    assert list_filter.plainly_answered(scope)["extensions"] == {"http.response.debug": {}}
    assert list_filter.plainly_answered({"headers": []})["extensions"] == {}


async def test_trailers_and_hints() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    response = filtered_responses.FilteredResponse(
        send, bytes, refuse=nothing, report=print, hold=nothing, is_list=True
    )
    hint = {"type": "http.response.debug", "info": {}}
    start = {"type": "http.response.start", "status": 200, "headers": AS_JSON, "trailers": True}
    body = {"type": "http.response.body", "body": b"{}"}
    for message in (hint, start, body, {"type": "http.response.trailers", "headers": []}):
        await response(message)

    assert [message["type"] for message in sent] == [hint["type"], start["type"], body["type"]]
    assert "trailers" not in sent[1]


async def test_nothing_follows_upon_the_error() -> None:
    refused: list[refusals.Refusal] = []
    reported: list[list_filter.UnreadableListError] = []

    async def refuse(refusal: refusals.Refusal) -> None:
        refused.append(refusal)

    response = filtered_responses.FilteredResponse(
        nothing, bytes, refuse, reported.append, hold=nothing, is_list=True
    )
    await response({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(2):
        await response({"type": "http.response.body", "body": LIST})

    assert [refusal.status for refusal in refused] == [500]
    assert len(reported) == 1


async def nothing(given: object) -> None:
    raise AssertionError(given)


async def test_the_call_of_what_is_hidden_is_decided_as_before(lists: Endpoint, app: App) -> None:
    app.answers(listed({"content": []}))

    denied = await lists.modern("tools/call", {"name": WRITE}, token="alice-reader")

    assert denied.status_code == 403
    assert not app.scopes


async def test_other_responses_of_an_app_without_sessions_are_passed_on(
    lists: Endpoint, app: App
) -> None:
    app.headers = [*AS_JSON, (b"content-encoding", b"gzip")]
    app.pieces = [gzip.compress(LIST)]

    response = await lists.modern("tools/call", {"name": OPEN})

    assert response.json() == ALL


async def post_call(endpoint: Endpoint, tool: str = READ) -> httpx2.Response:
    return await endpoint.post(call(tool), session="a-session", token="alice-reader")


async def test_a_list_that_an_app_sends_as_the_answer_to_a_call(
    stateful: Endpoint, app: App
) -> None:
    # A client that uses an id for a list and for a call may have the list sent to the call.
    app.answers(ALL)

    assert names(message_of(await post_call(stateful))["result"]) == [OPEN, READ]


async def test_a_list_that_a_stream_repeats(stateful: Endpoint, app: App) -> None:
    app.headers, app.pieces = EVENTS, [b"id: 9\ndata: " + LIST + b"\n\n"]
    headers = {
        "Accept": "text/event-stream",
        "Authorization": "Bearer alice-reader",
        "Last-Event-ID": "8",
        "Mcp-Session-Id": "a-session",
        "MCP-Protocol-Version": LEGACY,
    }

    response = await stateful.http.get("/mcp", headers=headers)

    assert names(message_of(response)["result"]) == [OPEN, READ]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (AS_JSON, b'{"id": 7, "result": {"content": "\\ud800 \\"tools\\": []"}}'),
        (EVENTS, b'data: {"result": {"content": "\xc3\xa9\\u00e9"}}\n\n'),
        ([(b"content-type", b"text/plain"), (b"content-encoding", b"gzip")], gzip.compress(LIST)),
    ],
)
async def test_answers_to_calls_are_passed_on_as_they_are(
    stateful: Endpoint, app: App, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    app.headers, app.pieces = headers, [body]

    response = await post_call(stateful)

    plain = LIST if response.headers.get("content-encoding") else body
    assert response.content == plain


@pytest.mark.parametrize(
    ("headers", "body", "ending"),
    [
        (AS_JSON, LIST, ("SUCCEEDED", "", 200)),
        (AS_JSON, LIST + b"x", ("FAILED", "JSON_RPC_ERROR", 500)),
        (EVENTS, b"data: " + LIST + b"\n\n", ("SUCCEEDED", "", 200)),
        (EVENTS, b"data: x" + LIST + b"\n\n", ("FAILED", "JSON_RPC_ERROR", 200)),
    ],
)
async def test_the_audit_says_whether_it_was_sent(
    app: App,
    resolver: MemoryResolver,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    ending: tuple[str, str, int],
) -> None:
    app.headers, app.pieces = headers, [body]
    resolver.sessions["a-session"] = owner("alice")
    audit = Collected()

    async with served(app, resolver, stateful=True, audit=audit) as endpoint:
        await ask(endpoint)
        listing = await audit.next()
        await post_call(endpoint)
        calling = await audit.next()

    # A call is no denied one: the app has executed it.
    for event, method in ((listing, "tools/list"), (calling, "tools/call")):
        assert event.method == method
        assert (event.outcome.value, event.reason, event.status) == ending
        assert (event.subject, event.tool) == ("alice", READ if method == "tools/call" else "")
