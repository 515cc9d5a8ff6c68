"""How much of a body is read, and parsed, before its token is known to be valid."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth import messages, strict_json
from authsvc.http_auth.anonymous_bodies import SHORT_BODY_BYTES
from authsvc.http_auth.strict_json import FEW_VALUES
from authsvc.http_auth.throttling import Pace
from mcp_adapter import Requirement, SessionGate
from mcp_adapter.gate import bodies, body_reading, lingering
from mcp_adapter.gate.middleware import DEFAULT_MAX_ANONYMOUS_BODY_BYTES
from tests.mcp_adapter.harness import (
    LEGACY,
    MODERN,
    RESOURCE,
    Endpoint,
    MemoryResolver,
    owner,
    request,
)
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

CHUNK = 16 * 1024
LONG = json.dumps(request("x", {"text": "x" * 10 * CHUNK})).encode()
FULL = json.dumps(request("x", {"values": [0] * FEW_VALUES})).encode()
WIDE = json.dumps(request("x", {"values": [0] * FEW_VALUES, "text": "x" * 3 * CHUNK})).encode()
LIST = json.dumps(request("x", {"values": [10**50] * (FEW_VALUES - 100)})).encode()
"""Of few values, and short enough to be parsed without a token."""


def sized(method: str, size: int) -> bytes:
    """A request's body of so many bytes, one long string in it."""
    empty = len(json.dumps(request(method, {"text": ""})))
    return json.dumps(request(method, {"text": "x" * (size - empty)})).encode()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it has read."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await JSONResponse(json.loads(body))(scope, receive, send)


@dataclass
class Exchange:
    """A POST to a gate, in pieces that are there as soon as they are asked for.

    Attributes:
        resolver: of the gate.
        gate: that is asked; None for one that is made for each POST.
        left: when the client leaves after its body; None where the server does not say.
        asked: when the gate waits for that.
    """

    resolver: MemoryResolver
    gate: SessionGate | None = None
    left: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    read: int = 0
    read_before_answer: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    answer: Any = None

    async def post(
        self,
        body: bytes,
        *,
        token: str = "",
        session: str = "",
        version: str = LEGACY,
        declared: bool = True,
        expects: str = "",
        **options: Any,  # noqa: ANN401 - of the gate
    ) -> None:
        headers = {
            "content-type": "application/json",
            "mcp-protocol-version": version,
            **({"content-length": str(len(body))} if declared else {}),
            **({"authorization": f"Bearer {token}"} if token else {}),
            **({"mcp-session-id": session} if session else {}),
            **({"expect": expects} if expects else {}),
        }
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        answered = b""

        async def receive() -> Message:
            if self.left is not None and self.read == len(body):
                self.asked.set()
                await self.left.wait()
                return {"type": "http.disconnect"}
            piece = body[self.read : self.read + CHUNK]
            self.read += len(piece)
            return {"type": "http.request", "body": piece, "more_body": self.read < len(body)}

        async def send(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                self.status, self.read_before_answer = message["status"], self.read
                self.headers = {key.decode(): value.decode() for key, value in message["headers"]}
            answered += message.get("body", b"")

        gate = self.gate or SessionGate(app, resolver=self.resolver, resource=RESOURCE, **options)
        await gate(scope, receive, send)
        self.answer = json.loads(answered) if answered else None


@pytest.fixture
def exchange(resolver: MemoryResolver) -> Exchange:
    resolver.sessions["s"] = owner("alice")
    return Exchange(resolver)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"version": MODERN}, 401),
        ({"session": "s"}, 401),
        ({}, 413),
        ({"token": "alice-1"}, 413),
        ({"token": "expired"}, 413),
    ],
    ids=str,
)
async def test_a_long_body_is_not_read_without_a_token(
    exchange: Exchange, given: dict[str, str], status: int, declared: bool
) -> None:
    """Where a session id is needed and missing, the token is not verified."""
    await exchange.post(LONG, declared=declared, **given)

    assert exchange.status == status
    assert exchange.read_before_answer == (
        0 if declared else DEFAULT_MAX_ANONYMOUS_BODY_BYTES + CHUNK
    )
    assert str(DEFAULT_MAX_ANONYMOUS_BODY_BYTES) in exchange.answer["error"]["message"]
    assert exchange.headers["connection"] == "close"
    assert ("www-authenticate" in exchange.headers) == (status == 401)
    assert exchange.resolver.calls == []
    assert exchange.read == len(LONG), "a client that is still sending loses the answer"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("given", [{"version": MODERN}, {"session": "s"}], ids=str)
async def test_a_long_body_is_not_read_with_a_bad_token(
    exchange: Exchange, given: dict[str, str], declared: bool
) -> None:
    await exchange.post(LONG, token="expired", declared=declared, **given)

    assert exchange.status == 401
    assert exchange.answer["error"]["data"] == {"reason": "TOKEN_EXPIRED"}
    assert exchange.read_before_answer == (
        0 if declared else DEFAULT_MAX_ANONYMOUS_BODY_BYTES + CHUNK
    )
    assert exchange.headers["connection"] == "close"


@pytest.mark.parametrize("token", ["", "bob", "expired"])
@pytest.mark.parametrize("given", [{"version": MODERN}, {"session": "s"}, {}], ids=str)
async def test_many_values_are_not_parsed_without_a_valid_token(
    exchange: Exchange, given: dict[str, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "_DECODER", None)
    exchange.resolver.tokens.pop("bob")

    await exchange.post(FULL, token=token, **given)  # type: ignore[arg-type] # no bool is among them

    assert exchange.status in {401, 413}


@pytest.mark.parametrize("body", [LONG, FULL], ids=["long", "full"])
async def test_only_small_bodies_are_parsed_for_the_id_of_a_rejected_request(
    exchange: Exchange, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "_DECODER", None)

    await exchange.post(body, token="alice-1", version="2099-01-01")

    assert (exchange.status, exchange.answer["id"]) == (400, None)
    assert exchange.resolver.calls == []


@pytest.mark.parametrize("body", [LONG, FULL], ids=["long", "full"])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("given", [{"version": MODERN}, {"session": "s"}], ids=str)
async def test_a_valid_token_opens_the_way(
    exchange: Exchange, given: dict[str, str], declared: bool, body: bytes
) -> None:
    await exchange.post(body, token="alice-1", declared=declared, **given)

    assert exchange.status == 200
    assert exchange.answer == json.loads(body)


async def test_the_bound_is_a_setting(exchange: Exchange) -> None:
    body = json.dumps(request("ping", {"text": "x" * 100})).encode()

    await exchange.post(body, version=MODERN, max_anonymous_body_bytes=len(body))
    assert exchange.status == 200
    exchange.read = 0
    await exchange.post(body, version=MODERN, max_anonymous_body_bytes=len(body) - 1)
    assert exchange.status == 401


async def test_a_valid_token_allows_no_more_than_the_longest_body(exchange: Exchange) -> None:
    await exchange.post(LONG, token="alice-1", version=MODERN, max_body_bytes=CHUNK)

    assert (exchange.status, exchange.read_before_answer) == (413, 0)
    assert exchange.resolver.calls == []


async def test_a_client_that_waits_to_be_asked_for_its_body_is_not_asked(
    exchange: Exchange,
) -> None:
    await exchange.post(LONG, session="s", expects="100-continue")

    assert exchange.status == 401
    assert exchange.headers["connection"] == "close"
    assert str(DEFAULT_MAX_ANONYMOUS_BODY_BYTES) in exchange.answer["error"]["message"]
    assert exchange.read == 0


def test_refusals_of_bodies_are_paced() -> None:
    pace = Pace(0.25, 0.75)

    assert [pace.delay_seconds(10.0) for _ in range(5)] == [0.0, 0.25, 0.5, 0.75, 0.75]
    assert pace.delay_seconds(10.5) == 0.25
    assert pace.delay_seconds(20.0) == 0.0


@pytest.mark.parametrize("token", ["", "expired"])
async def test_refusals_are_paced(
    exchange: Exchange, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Pace] = []

    async def wait(pace: Pace) -> None:
        turns.append(pace)

    monkeypatch.setattr(Pace, "wait", wait)
    await exchange.post(LONG, token=token, version=MODERN)  # a disconnect is not noticed
    of_answers = [pace for pace in turns if pace is not lingering.PACE]
    assert len(of_answers) == 1
    assert len(turns) == 1 + -(-len(LONG) // CHUNK), "each piece that is dropped is paced, too"

    turns.clear()
    await exchange.post(LONG, token="alice-1", version=MODERN)
    assert turns == []


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Pace]:
    """What each answer waits for."""
    taken: list[Pace] = []

    def delay_seconds(pace: Pace, now: float) -> float:
        if pace is not lingering.PACE:
            taken.append(pace)
        return 0.0

    monkeypatch.setattr(Pace, "delay_seconds", delay_seconds)
    return taken


@pytest.mark.parametrize(
    ("method", "given", "status"),
    [
        ("x", {"version": MODERN}, 401),
        ("x", {"session": "s"}, 401),
        ("x", {}, 400),
        ("ping", {"version": MODERN}, 200),
        ("ping", {"session": "anonymous"}, 200),
        ("initialize", {}, 200),
        ("ping", {"version": MODERN, "token": "expired"}, 401),
        ("x", {"session": "s", "token": "expired"}, 401),
        ("x", {"token": "alice-1"}, 400),
        ("initialize", {"token": "expired"}, 401),
        ("initialize", {"version": "2099-01-01"}, 400),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_long", [False, True])
async def test_without_a_valid_token_more_than_a_short_body_is_paced(
    exchange: Exchange,
    method: str,
    given: dict[str, Any],
    status: int,
    is_long: bool,
    turns: list[Pace],
) -> None:
    """Each is paced once, served or refused. Requests that open sessions are short."""
    exchange.resolver.sessions["anonymous"] = None
    await exchange.post(sized(method, SHORT_BODY_BYTES + is_long), **given)

    assert exchange.status == status
    assert len(turns) == is_long


async def test_without_a_token_the_parsing_of_longer_bodies_is_paced(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first of a flood are all parsed at once."""

    async def wait(pace: Pace, receive: Receive) -> None:
        monkeypatch.setattr(messages, "parse", parse)

    parse = messages.parse
    monkeypatch.setattr(messages, "parse", None)
    monkeypatch.setattr(bodies, "wait_while_connected", wait)
    await exchange.post(sized("ping", SHORT_BODY_BYTES + 1), version=MODERN)

    assert exchange.status == 200


@pytest.mark.parametrize("token", ["", "alice-1"])
@pytest.mark.parametrize("is_long", [False, True])
async def test_the_answer_to_a_body_that_cannot_be_read_is_paced(
    exchange: Exchange, token: str, is_long: bool, turns: list[Pace]
) -> None:
    """The token was not verified: it may be any."""
    await exchange.post(b"9" * (SHORT_BODY_BYTES + is_long), token=token, version=MODERN)

    assert exchange.status == 400
    assert len(turns) == is_long


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.SESSION_EXPIRED, 404),
        (Reason.SESSION_REVOKED, 404),
        (Reason.SESSION_SUBJECT_MISMATCH, 404),
        (Reason.CALLER_NOT_ALLOWED, 403),
        (Reason.OVERLOADED, 429),
        (Reason.STORE_UNAVAILABLE, 503),
        (None, 500),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [SHORT_BODY_BYTES + 1, 10 * CHUNK])
async def test_what_a_valid_token_may_be_answered_does_not_wait(
    exchange: Exchange, reason: Reason | None, status: int, size: int, turns: list[Pace]
) -> None:
    """In an outage, or once sessions have ended, valid callers do not wait with a flood."""
    exchange.resolver.error = AuthError(reason) if reason else RuntimeError()
    await exchange.post(sized("x", size), session="s", token="alice-1")

    assert (exchange.status, turns) == (status, [])


@pytest.mark.parametrize("size", [SHORT_BODY_BYTES + 1, 10 * CHUNK])
async def test_bodies_without_a_token_do_not_hold_up_refusals_of_tokens(
    exchange: Exchange, size: int, turns: list[Pace]
) -> None:
    exchange.gate = SessionGate(app, resolver=exchange.resolver, resource=RESOURCE)
    for token in ("", "", "expired", "expired"):
        exchange.read = 0
        await exchange.post(sized("x", size), token=token, version=MODERN)
        assert exchange.status == 401

    anonymous, again, with_token, with_token_again = turns
    assert (anonymous, with_token) == (again, with_token_again)
    assert anonymous is not with_token


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("ping", {"version": MODERN}),
        ("x", {"session": "s"}),
        ("initialize", {"version": "2099-01-01"}),
        ("x", {"session": "s", "token": "expired"}),
    ],
    ids=str,
)
async def test_nothing_is_done_for_a_client_that_leaves_while_it_waits(
    exchange: Exchange, method: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not go on waiting: it holds a body, and no bound on connections counts it."""
    monkeypatch.setattr(Pace, "delay_seconds", lambda *_: 10 * TIMEOUT_SECONDS)
    if "token" not in given:
        monkeypatch.setattr(messages, "parse", None)
    exchange.left = asyncio.Event()
    async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(exchange.post(sized(method, SHORT_BODY_BYTES + 1), **given))
        await exchange.asked.wait()
        exchange.left.set()

    assert (exchange.status, exchange.answer) == (0, None)


async def test_the_app_sees_a_client_leave_that_has_waited(exchange: Exchange) -> None:
    """What asks during the wait takes nothing from the app."""

    async def until_left(scope: Scope, receive: Receive, send: Send) -> None:
        assert exchange.left is not None
        events.append(await receive())
        exchange.left.set()
        events.append(await receive())
        raise ClientDisconnect

    events: list[Message] = []
    exchange.left = asyncio.Event()
    body = sized("ping", SHORT_BODY_BYTES + 1)
    exchange.gate = SessionGate(until_left, resolver=exchange.resolver, resource=RESOURCE)
    with pytest.raises(ClientDisconnect):
        await exchange.post(body, version=MODERN)

    assert exchange.asked.is_set()
    assert [event["type"] for event in events] == ["http.request", "http.disconnect"]
    assert events[0]["body"] == body


@pytest.mark.parametrize("size", [SHORT_BODY_BYTES + 1, 10 * CHUNK])
@pytest.mark.parametrize("given", [{"session": "s"}, {"version": MODERN}], ids=str)
async def test_with_a_valid_token_no_answer_waits(
    exchange: Exchange, size: int, given: dict[str, Any], turns: list[Pace]
) -> None:
    await exchange.post(sized("x", size), token="alice-1", **given)

    assert (exchange.status, turns) == (200, [])


async def test_with_a_valid_token_no_refusal_waits(exchange: Exchange, turns: list[Pace]) -> None:
    def requirement(method: str, params: object) -> Requirement:
        return Requirement(("things.write",))

    body = sized("x", 10 * CHUNK)
    await exchange.post(body, token="alice-reader", version=MODERN, requirement=requirement)

    assert (exchange.status, turns) == (403, [])


async def test_a_request_with_a_valid_token_is_refused_at_once(
    exchange: Exchange, turns: list[Pace]
) -> None:
    await exchange.post(b"9" * 10 * CHUNK, token="alice-1", version=MODERN)

    assert (exchange.status, turns) == (400, [])


@pytest.mark.parametrize(
    ("body", "token"),
    [(LONG, ""), (WIDE, ""), (LONG, "expired"), (WIDE, "expired"), (LIST, "expired")],
    ids=["long", "wide", "long with a token", "wide with a token", "list with a token"],
)
async def test_a_paced_refusal_holds_no_body(
    exchange: Exchange, body: bytes, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_held = []
    modules = (body_reading, messages, strict_json)
    here = [tracemalloc.Filter(True, str(it.__file__)) for it in modules]

    def delay_seconds(pace: Pace, now: float) -> float:
        if pace is not lingering.PACE:
            snapshot = tracemalloc.take_snapshot().filter_traces(here)
            bytes_held.append(sum(trace.size for trace in snapshot.traces))
        return 0.0

    monkeypatch.setattr(Pace, "delay_seconds", delay_seconds)
    tracemalloc.start()
    try:
        await exchange.post(body, token=token, version=MODERN, declared=False)
    finally:
        tracemalloc.stop()

    assert exchange.status == 401
    assert [held < CHUNK for held in bytes_held] == [True]


async def test_a_body_that_is_refused_for_its_length_is_answered(endpoint: Endpoint) -> None:
    """Over real HTTP, the answer comes though the body is not read."""
    response = await endpoint.post(LONG, version=None)

    assert response.status_code == 413
