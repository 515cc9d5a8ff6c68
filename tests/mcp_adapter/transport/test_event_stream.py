"""The stream of one request, written by several tasks at once."""

from __future__ import annotations

import anyio
import pytest
from mcp_types import JSONRPCNotification, JSONRPCResponse
from starlette.types import Message

from mcp_adapter.transport.event_stream import EventStream

pytestmark = pytest.mark.anyio

REPLY = JSONRPCResponse(jsonrpc="2.0", id=1, result={})


async def test_one_task_commits_before_any_of_them_writes() -> None:
    sent: list[str] = []

    async def send(message: Message) -> None:
        # The head takes long, as with a client that reads slowly: the others run meanwhile.
        for _ in range(10 if message["type"] == "http.response.start" else 1):
            await anyio.lowlevel.checkpoint()
        sent.append(message["type"])

    stream = EventStream(send)
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(stream.message, note)

    assert sent == ["http.response.start", *["http.response.body"] * 3]


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_start_whose_writer_is_cancelled_is_sent_once_before_what_is_written_next(
    is_sent: bool,
) -> None:
    """Whether the start still waits for the caller's check, or is with the server already."""
    sent: list[str] = []
    waiting, may_go_on = anyio.Event(), anyio.Event()

    async def send(message: Message) -> None:
        is_start = message["type"] == "http.response.start"
        if is_sent or not is_start:
            sent.append(message["type"])
        if is_start:
            waiting.set()
            await may_go_on.wait()
        if is_start and not is_sent:
            sent.append(message["type"])

    stream = EventStream(send)
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.message, note)
        await waiting.wait()
        tasks.cancel_scope.cancel()
    assert stream.committed
    may_go_on.set()
    await stream.finish(REPLY)

    assert sent == ["http.response.start", "http.response.body"]


async def test_a_start_that_fails_fails_what_is_written_next() -> None:
    waiting, may_go_on = anyio.Event(), anyio.Event()

    async def send(message: Message) -> None:
        waiting.set()
        await may_go_on.wait()
        raise OSError("ended")

    stream = EventStream(send)
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.message, note)
        await waiting.wait()
        tasks.cancel_scope.cancel()
    may_go_on.set()

    with pytest.raises(OSError, match="ended"):
        await stream.finish(REPLY)


@pytest.mark.parametrize("is_begun", [False, True])
async def test_what_is_written_after_the_reply_is_dropped(is_begun: bool) -> None:
    """A task that a handler has left behind may still notify."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    stream = EventStream(send)
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    if is_begun:
        await stream.message(note)
    assert await stream.finish(REPLY) is is_begun
    before = len(sent)
    await stream.message(note)

    assert sent[before:] == []
    assert stream.committed is is_begun
