"""How the calls at the gate end, as they are audited: cut off, given up, failed."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.audit.calls import CallEvent, CallOutcome
from authsvc.domain.errors import Reason
from authsvc.http_auth.headers import Headers
from mcp_adapter.gate import caller_checks
from mcp_adapter.gate.call_audit import AuditedExchange, GateAudit
from tests.mcp_adapter.gate.direct import gated, posted
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    RESOURCE,
    Endpoint,
    MemoryResolver,
    call,
    end_session,
    expire,
    initialize,
    owner,
    request,
    revoke,
)
from tests.support.audited import Collected

pytestmark = pytest.mark.anyio

End = Callable[[Endpoint, str], str]


@pytest.fixture
def endpoint(audited_endpoint: Endpoint) -> Endpoint:
    return audited_endpoint


@pytest.mark.parametrize("end", [revoke, expire, end_session])
async def test_a_stream_that_is_cut_off(
    endpoint: Endpoint, audit: Collected, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.01)
    session = await endpoint.open("alice-1")
    endpoint.meeting.expected = 2
    audit.events.clear()
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": LEGACY,
        "Authorization": "Bearer alice-1",
        "Mcp-Session-Id": session,
    }

    held = call("hold", _meta={"progressToken": 1})
    with anyio.fail_after(DEADLINE_SECONDS):
        async with endpoint.http.stream("POST", "/mcp", json=held, headers=headers) as response:
            lines = response.aiter_lines()
            await anext(lines)
            assert audit.events == []
            reason = end(endpoint, session)
            async for _ in lines:
                pass

    event = audit.take()
    assert (event.outcome, event.reason) == (CallOutcome.ENDED, reason)
    assert (event.tool, event.status, event.subject) == ("hold", 200, "alice")


async def test_a_call_whose_answer_is_withheld(
    audit: Collected, resolver: MemoryResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been sent yet when its token is revoked."""
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)
    resolver.sessions["session-1"] = owner("alice")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del resolver.tokens["alice-1"]
        resolver.rejected["alice-1"] = Reason.TOKEN_REVOKED
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    sent = await posted(
        gated(app, resolver, audit), call("whoami"), token="alice-1", session="session-1"
    )

    assert b"TOKEN_REVOKED" in sent[-1]["body"]
    event = audit.take()
    assert (event.outcome, event.reason) == (CallOutcome.ENDED, "TOKEN_REVOKED")
    assert (event.status, event.subject) == (200, "alice")


async def test_an_initialize_whose_answer_is_withheld(
    audit: Collected, resolver: MemoryResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be repeated, so it is answered as if it had been refused. It was not."""
    monkeypatch.setattr(caller_checks, "CHECK_SECONDS", 0.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        resolver.rejected["alice-1"] = Reason.TOKEN_REVOKED
        del resolver.tokens["alice-1"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})

    sent = await posted(gated(app, resolver, audit), initialize(), token="alice-1")

    assert sent[0]["status"] == 401
    event = audit.take()
    assert (event.outcome, event.reason) == (CallOutcome.ENDED, "TOKEN_REVOKED")
    assert event.status == 401


@pytest.mark.parametrize("stateful", [False, True])
async def test_an_initialize_whose_session_cannot_be_had_has_failed(
    audit: Collected, resolver: MemoryResolver, *, stateful: bool
) -> None:
    """The app has executed it: it was not denied."""
    resolver.sessions["taken"] = owner("bob")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"mcp-session-id", b"taken")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    gate = gated(app, resolver, audit, stateful=stateful)
    sent = await posted(gate, initialize(), token="alice-1")

    assert sent[0]["status"] == 500
    event = audit.take()
    assert (event.method, event.outcome, event.status) == ("initialize", CallOutcome.FAILED, 500)
    assert event.subject == "alice"


async def test_a_get_stream_is_audited_when_it_ends(
    audit: Collected, resolver: MemoryResolver
) -> None:
    resolver.sessions["session-1"] = owner("alice")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        assert audit.events == []
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    gate = gated(app, resolver, audit, stateful=True, streams=True)
    for token in ("alice-1", "bob"):
        await posted(gate, None, method="GET", token=token, session="session-1")

    assert audit.endings() == [
        ("GET", "SUCCEEDED", ""),
        ("GET", "DENIED", "SESSION_SUBJECT_MISMATCH"),
    ]


async def test_delete_at_an_app_with_sessions(audit: Collected, resolver: MemoryResolver) -> None:
    resolver.sessions["session-1"] = owner("alice")
    gate = gated(PlainTextResponse("", 200), resolver, audit, stateful=True)

    await posted(gate, None, method="DELETE", token="alice-1", session="session-1")

    assert audit.endings() == [("DELETE", "SUCCEEDED", "")]


GONE = [{"type": "http.disconnect"}]


async def ends_with(
    app: ASGIApp,
    resolver: MemoryResolver,
    audit: Collected,
    *,
    events: Iterable[Message] = (),
    fails: bool = False,
) -> tuple[str, str, int]:
    """How a call of an app is audited."""
    resolver.sessions["session-1"] = owner("alice")
    await posted(
        gated(app, resolver, audit),
        call("whoami"),
        token="alice-1",
        session="session-1",
        events=events,
        fails=fails,
    )
    event = audit.take()
    return event.outcome.value, event.reason, event.status


async def test_a_client_that_leaves_while_the_app_works(
    audit: Collected, resolver: MemoryResolver
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    ending = await ends_with(app, resolver, audit, events=GONE)

    assert ending == ("ENDED", "CLIENT_DISCONNECTED", 0)


async def test_a_client_that_leaves_before_its_answer_is_sent(
    audit: Collected, resolver: MemoryResolver
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        await PlainTextResponse("for nobody")(scope, receive, send)

    ending = await ends_with(app, resolver, audit, events=GONE)

    assert ending == ("ENDED", "CLIENT_DISCONNECTED", 200)


async def test_a_client_to_which_nothing_can_be_sent(
    audit: Collected, resolver: MemoryResolver
) -> None:
    with pytest.raises(OSError, match="has left"):
        await ends_with(PlainTextResponse("for nobody"), resolver, audit, fails=True)

    assert audit.endings() == [("tools/call", "ENDED", "CLIENT_DISCONNECTED")]


async def test_a_client_that_leaves_before_its_call_is_read_has_called_nothing(
    audit: Collected, resolver: MemoryResolver
) -> None:
    gate = gated(PlainTextResponse("never"), resolver, audit)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "root_path": "",
        "state": {},
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
    }

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await gate(scope, receive, send)

    assert audit.events == []


async def test_an_app_that_fails(audit: Collected, resolver: MemoryResolver) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        await ends_with(app, resolver, audit)

    assert audit.endings() == [("tools/call", "FAILED", "NO_RESPONSE")]


async def test_an_app_that_answers_nothing(audit: Collected, resolver: MemoryResolver) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    assert await ends_with(app, resolver, audit) == ("FAILED", "NO_RESPONSE", 0)


@pytest.mark.parametrize("has_left", [True, False])
async def test_a_server_that_stops(
    audit: Collected, resolver: MemoryResolver, has_left: bool
) -> None:
    begun = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if has_left:
            await receive()
        begun.set()
        await anyio.sleep_forever()

    task = asyncio.ensure_future(ends_with(app, resolver, audit, events=GONE if has_left else ()))
    with anyio.fail_after(DEADLINE_SECONDS):
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])

    reason = "CLIENT_DISCONNECTED" if has_left else "CANCELLED"
    assert audit.endings() == [("tools/call", "ENDED", reason)]


async def test_a_request_is_timed_to_the_last_byte(resolver: MemoryResolver) -> None:
    """Not to the end of what an app does afterwards."""
    ticks = itertools.count(10.0, 2.5)
    audit = Collected()
    gate = GateAudit(audit, resource=RESOURCE, declared={}, clock=lambda: next(ticks))

    async def serve(
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        audited: AuditedExchange | None = None,
    ) -> None:
        assert audited is not None
        audited.read(call("whoami"))
        await PlainTextResponse("")(scope, receive, send)
        assert len(audit.events) == 1

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.serve(serve, scope, Headers(), receive, send)

    await posted(app, None)

    assert audit.take().duration_seconds == 2.5


# Failures in responses


ERROR = {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "x"}}
TOOL_FAILED = {"jsonrpc": "2.0", "id": 7, "result": {"content": [], "isError": True}}
NOISE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"error": "x"}}
ASKED = {"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {"error": 1}}
FINE = {"jsonrpc": "2.0", "id": 7, "result": {"isError": False, "error": {"code": 1}}}


def text(*found: object) -> bytes:
    return b"".join(b"event: message\r\ndata: %b\r\n\r\n" % json.dumps(m).encode() for m in found)


FAILURES: dict[str, tuple[list[bytes], str]] = {
    "error": ([json.dumps(ERROR).encode()], "JSON_RPC_ERROR"),
    "tool": ([json.dumps(TOOL_FAILED, separators=(",", ":")).encode()], "TOOL_ERROR"),
    "fine": ([json.dumps(FINE).encode()], ""),
    "of-another": ([json.dumps({**ERROR, "id": 8}).encode()], ""),
    "of-none": ([json.dumps({**ERROR, "id": None}).encode()], ""),
    "batch": ([json.dumps([{**ERROR, "id": 8}, TOOL_FAILED, 3]).encode()], "TOOL_ERROR"),
    "events": ([text(NOISE), text(ASKED), text(ERROR)], "JSON_RPC_ERROR"),
    "events-at-once": ([text(NOISE, ASKED, TOOL_FAILED)], "TOOL_ERROR"),
    "events-of-others": ([text(NOISE, ASKED, FINE)], ""),
    "too-long": ([json.dumps({**ERROR, "x": "y" * 70_000}).encode()], ""),
    "in-pieces": ([b'{"jsonrpc":"2.0","id":7,"error":', b"{}}"], ""),
    "no-json": ([b'{"error":'], ""),
    "deep": ([b'{"error":' + b"[" * 60_000], ""),
    "no-object": ([b'[[{"error":{}}]]'], ""),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_found_in_the_response(
    audit: Collected, resolver: MemoryResolver, name: str
) -> None:
    pieces, reason = FAILURES[name]

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(body())(scope, receive, send)

    ending = await ends_with(app, resolver, audit)

    assert ending == ("FAILED" if reason else "SUCCEEDED", reason, 200)


@pytest.mark.parametrize("failed", [0, 1, 2])
async def test_a_failure_hides_no_success_with_its_id(
    audit: Collected, resolver: MemoryResolver, failed: int
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answers = [TOOL_FAILED] * failed + [FINE] * (2 - failed)
        await JSONResponse(answers)(scope, receive, send)

    resolver.sessions["session-1"] = owner("alice")
    batch = [request("tools/call", {"name": "whoami"}) for _ in range(2)]
    gate = gated(app, resolver, audit)
    await posted(gate, batch, token="alice-1", session="session-1", version="2025-03-26")

    outcome = CallOutcome.FAILED if failed == 2 else CallOutcome.SUCCEEDED
    assert [event.outcome for event in audit.events] == [outcome] * 2


async def test_a_status_that_says_so_is_a_failure(
    audit: Collected, resolver: MemoryResolver
) -> None:
    answer = PlainTextResponse("no such thing", 404)

    assert await ends_with(answer, resolver, audit) == ("FAILED", "", 404)


# Any requests


async def test_there_are_as_many_events_as_calls(
    audit: Collected, resolver: MemoryResolver
) -> None:
    chance = random.Random(18)
    resolver.sessions["session-1"] = owner("alice")
    gate = gated(JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {}}), resolver, audit)
    entries: list[Any] = [
        *(call("whoami"), call("write"), call("public"), request("ping"), initialize()),
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "id": 4, "result": {}},
        *({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, {"method": 3}, 3, "ping"),
    ]
    audited, outcomes = 0, set()
    for _ in range(20_000):
        body = chance.choice(entries)
        if chance.random() < 0.3:
            body = chance.choices(entries[:7], k=chance.randrange(4))
        await posted(
            gate,
            body,
            token=chance.choice(["alice-1", "alice-reader", "bob", "expired", ""]),
            session=chance.choice(["session-1", "session-1", "unknown", ""]),
            version=chance.choice(["2025-03-26", LEGACY, "1999-01-01"]),
        )
        assert len(audit.events) == calls_of(body) or is_unread(audit.events)
        audited += len(audit.events)
        outcomes |= {event.outcome for event in audit.events}
        audit.events.clear()
    assert audited > 10_000
    assert outcomes == {CallOutcome.SUCCEEDED, CallOutcome.DENIED}


def calls_of(body: object) -> int:
    """How many calls a message has."""
    entries = body if isinstance(body, list) else [body]
    return sum(isinstance(entry, dict) and "method" in entry for entry in entries)


def is_unread(events: list[CallEvent]) -> bool:
    """Whether a request was refused before anything was known of its message."""
    return [(event.method, event.outcome) for event in events] == [("POST", CallOutcome.DENIED)]
