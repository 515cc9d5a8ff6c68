"""A response as a stream of server-sent events."""

from __future__ import annotations

import asyncio

from mcp_types import JSONRPCNotification
from starlette.types import Send

from mcp_adapter.transport.delayed import Delayed
from mcp_adapter.transport.replies import Reply, dumped, encoded

KEEP_ALIVE_SECONDS = 15.0
"""Longest silence on a stream before a comment keeps its connection from timing out."""

_SSE_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """The response as an SSE stream, from the first thing that is sent on it.

    Until then it is not committed, and the request can still be answered with plain JSON.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = asyncio.Lock()
        self._start: asyncio.Task[None] | None = None
        self._is_over = False

    @property
    def committed(self) -> bool:
        """Whether the response is a stream, begun or about to begin."""
        return self._start is not None

    async def message(self, message: JSONRPCNotification) -> None:
        """Send a notification. One that a handler sends after the reply is dropped."""
        await self._write(_event(message), last=False)

    async def finish(self, reply: Reply) -> bool:
        """Send the reply as the last message; False where there is no stream for it, and will be
        none: then it is the response by itself."""
        if not self.committed:
            self._is_over = True
            return False
        await self._write(_event(reply), last=True)
        return True

    def kept_alive(self) -> Delayed:
        """Send a comment at each ``KEEP_ALIVE_SECONDS``, for as long as the block lasts."""
        return Delayed(KEEP_ALIVE_SECONDS, self._ping)

    async def _ping(self) -> None:
        while True:
            await self._write(": ping\r\n\r\n", last=False)
            await asyncio.sleep(KEEP_ALIVE_SECONDS)

    async def _write(self, text: str, last: bool) -> None:
        # A handler may notify from several tasks: one of them begins, before any of them writes.
        async with self._lock:
            if self._is_over:
                return
            await self._begin()
            self._is_over = last
            body = {"type": "http.response.body", "body": text.encode(), "more_body": not last}
            await self._send(body)

    async def _begin(self) -> None:
        """Send the start, once.

        It may wait for the caller's check, and its writer may be cancelled meanwhile. So it is
        sent by a task of its own, which goes on then: what is written next waits for it.
        """
        if self._start is None:
            start = {"type": "http.response.start", "status": 200, "headers": _SSE_HEADERS}
            self._start = asyncio.ensure_future(self._send(start))
            # The writer raises a failure. Where the writer was cancelled, it is dropped here.
            self._start.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([self._start])
        self._start.result()


def _event(message: Reply | JSONRPCNotification) -> str:
    return f"event: message\r\ndata: {encoded(dumped(message))}\r\n\r\n"
