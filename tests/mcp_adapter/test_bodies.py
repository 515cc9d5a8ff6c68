"""How much of a body is read, and parsed, before its token is known to be valid."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from mcp_adapter import messages
from mcp_adapter.messages import FEW_VALUES
from mcp_adapter.middleware import DEFAULT_MAX_ANONYMOUS_BODY_BYTES, SessionGate
from mcp_adapter.pacing import Pace
from tests.mcp_adapter.harness import LEGACY, MODERN, RESOURCE, Endpoint, MemoryResolver, request

pytestmark = pytest.mark.anyio

CHUNK = 16 * 1024
LONG = json.dumps(request("x", {"text": "x" * 10 * CHUNK})).encode()
FULL = json.dumps(request("x", {"values": [0] * FEW_VALUES})).encode()
WIDE = json.dumps(request("x", {"values": [0] * FEW_VALUES, "text": "x" * 3 * CHUNK})).encode()


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
    """A POST to a gate, in pieces that are there as soon as they are asked for."""

    resolver: MemoryResolver
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
        **options: Any,  # noqa: ANN401 - of the gate
    ) -> None:
        headers = {
            "content-type": "application/json",
            "mcp-protocol-version": version,
            **({"content-length": str(len(body))} if declared else {}),
            **({"authorization": f"Bearer {token}"} if token else {}),
            **({"mcp-session-id": session} if session else {}),
        }
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        answered = b""

        async def receive() -> Message:
            piece = body[self.read : self.read + CHUNK]
            self.read += len(piece)
            return {"type": "http.request", "body": piece, "more_body": self.read < len(body)}

        async def send(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                self.status, self.read_before_answer = message["status"], self.read
                self.headers = {key.decode(): value.decode() for key, value in message["headers"]}
            answered += message.get("body", b"")

        gate = SessionGate(app, resolver=self.resolver, resource=RESOURCE, **options)
        await gate(scope, receive, send)
        self.answer = json.loads(answered)


@pytest.fixture
def exchange(resolver: MemoryResolver) -> Exchange:
    resolver.sessions["s"] = "alice"
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
    """Where a session is due and none is named, a token opens nothing: nobody verifies it."""
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
    monkeypatch.setattr(messages, "_DECODER", None)
    exchange.resolver.tokens.pop("bob")

    await exchange.post(FULL, token=token, **given)  # type: ignore[arg-type] # no bool is among them

    assert exchange.status in {401, 413}


@pytest.mark.parametrize("body", [LONG, FULL], ids=["long", "full"])
async def test_nothing_much_is_parsed_for_the_id_of_a_refused_request(
    exchange: Exchange, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_DECODER", None)

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


async def test_nobody_reads_more_than_anybody_may(exchange: Exchange) -> None:
    await exchange.post(LONG, token="alice-1", version=MODERN, max_body_bytes=CHUNK)

    assert (exchange.status, exchange.read_before_answer) == (413, 0)
    assert exchange.resolver.calls == []


def test_refusals_of_bodies_are_paced() -> None:
    pace = Pace(0.25, 0.75)

    assert [pace.delay_seconds(10.0) for _ in range(5)] == [0.0, 0.25, 0.5, 0.75, 0.75]
    assert pace.delay_seconds(10.5) == 0.25
    assert pace.delay_seconds(20.0) == 0.0


@pytest.mark.parametrize("token", ["", "expired"])
async def test_the_next_refusal_waits_for_its_turn(
    exchange: Exchange, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Pace] = []

    async def wait(pace: Pace) -> None:
        turns.append(pace)

    monkeypatch.setattr(Pace, "wait", wait)
    await exchange.post(LONG, token=token, version=MODERN)
    await exchange.post(LONG, token="alice-1", version=MODERN)

    assert len(turns) == 1


@pytest.mark.parametrize("token", ["", "expired"])
@pytest.mark.parametrize("body", [LONG, WIDE], ids=["long", "wide"])
async def test_a_refusal_that_waits_for_its_turn_holds_no_body(
    exchange: Exchange, body: bytes, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_held = []
    here = [tracemalloc.Filter(True, messages.__file__)]

    async def wait(_: Pace) -> None:
        snapshot = tracemalloc.take_snapshot().filter_traces(here)
        bytes_held.append(sum(trace.size for trace in snapshot.traces))

    monkeypatch.setattr(Pace, "wait", wait)
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
