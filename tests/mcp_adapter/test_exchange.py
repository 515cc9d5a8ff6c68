"""The stream of one request, written by several tasks at once."""

from __future__ import annotations

import anyio
import pytest
from mcp_types import JSONRPCNotification
from starlette.types import Message

from mcp_adapter.exchange import EventStream

pytestmark = pytest.mark.anyio


async def test_one_task_commits_before_any_of_them_writes() -> None:
    sent: list[str] = []

    async def send(message: Message) -> None:
        # The head takes long, as with a client that reads slowly: the others get their turn.
        for _ in range(10 if message["type"] == "http.response.start" else 1):
            await anyio.lowlevel.checkpoint()
        sent.append(message["type"])

    stream = EventStream(send)
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(stream.message, note)

    assert sent == ["http.response.start", *["http.response.body"] * 3]
