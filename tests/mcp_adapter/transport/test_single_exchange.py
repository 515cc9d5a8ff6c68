"""A client of 2026-07-28 cancels its request by closing the response."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp.server.lowlevel import Server
from starlette.types import Message, Scope

from mcp_adapter.transport import event_stream, single_exchange
from mcp_adapter.transport.streamable import StreamableHttp
from tests.mcp_adapter.harness import MODERN
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

MESSAGE = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {
        "name": "t",
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": "p",
        },
    },
}


class Client:
    """One request, as an ASGI server hands it on.

    Attributes:
        sent: what it was answered.
        asked: how often the app has asked for more of the request.
    """

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.sent: list[Message] = []
        self.asked = 0
        self.leaves = anyio.Event()
        self._headers = [
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"mcp-protocol-version", MODERN.encode()),
            (b"mcp-method", b"tools/call"),
            (b"mcp-name", b"t"),
            *headers,
        ]

    @property
    def scope(self) -> Scope:
        state = {"mcp_message": MESSAGE}
        return {"type": "http", "method": "POST", "headers": self._headers, "state": state}

    async def receive(self) -> Message:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def endpoint_of(call: Any) -> StreamableHttp:  # noqa: ANN401 - a tool
    return StreamableHttp(Server("t", on_call_tool=call), max_body_bytes=1000)


@pytest.mark.parametrize("reports", [False, True])
async def test_a_client_that_leaves_cancels_its_call(
    reports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_exchange, "WATCH_SECONDS", 0)
    client, became = Client(), []

    async def call(ctx: Any, params: object) -> None:  # noqa: ANN401 - the SDK's context
        if reports:
            await ctx.session.report_progress(1, 2, "begun")
        client.leaves.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                became.append("cleaned up")

    endpoint = endpoint_of(call)
    async with endpoint.run():
        with anyio.fail_after(TIMEOUT_SECONDS):
            await endpoint(client.scope, client.receive, client.send)

    assert became == ["cleaned up"]
    # No more than what was sent before.
    assert [message.get("more_body") for message in client.sent] == [None, True] * reports


async def test_a_call_that_answers_soon_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_exchange, "WATCH_SECONDS", 10 * TIMEOUT_SECONDS)
    client = Client()

    async def call(ctx: object, params: object) -> None:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    endpoint = endpoint_of(call)
    async with endpoint.run():
        await endpoint(client.scope, client.receive, client.send)

    assert client.asked == 0
    assert client.sent[0]["status"] == 200


async def test_a_call_that_answers_while_it_is_watched_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(single_exchange, "WATCH_SECONDS", 0)
    client = Client()

    async def call(ctx: object, params: object) -> None:
        while client.asked < 2:
            await anyio.lowlevel.checkpoint()

    endpoint = endpoint_of(call)
    async with endpoint.run():
        with anyio.fail_after(TIMEOUT_SECONDS):
            await endpoint(client.scope, client.receive, client.send)

    assert client.sent[0]["status"] == 200


async def test_a_call_that_says_nothing_for_long_is_kept_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(single_exchange, "WATCH_SECONDS", 0)
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_SECONDS", 0.001)
    client = Client()

    async def call(ctx: object, params: object) -> None:
        while len(client.sent) < 2:
            await anyio.lowlevel.checkpoint()

    endpoint = endpoint_of(call)
    async with endpoint.run():
        with anyio.fail_after(TIMEOUT_SECONDS):
            await endpoint(client.scope, client.receive, client.send)

    start, ping, *_, last = client.sent
    assert (b"content-type", b"text/event-stream") in start["headers"]
    assert ping["body"] == b": ping\r\n\r\n"
    assert last["body"].startswith(b"event: message")


@pytest.mark.parametrize("header", [(b"mcp-method", b"tools/call"), (b"mcp-name", b"t")])
async def test_without_a_gate_a_header_that_routes_twice_is_refused(
    header: tuple[bytes, bytes],
) -> None:
    client = Client(header)
    endpoint = endpoint_of(lambda ctx, params: anyio.lowlevel.checkpoint())
    async with endpoint.run():
        await endpoint(client.scope, client.receive, client.send)

    assert client.sent[0]["status"] == 400
