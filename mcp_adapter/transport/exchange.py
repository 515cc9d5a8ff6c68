"""One request of the handshake era: dispatched to the SDK, answered as JSON or as an SSE stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.runner import modern_error_data
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse, ProgressToken, RequestId
from starlette.requests import Request
from starlette.types import Send

KEEP_ALIVE_SECONDS = 15.0
"""How long a request may be silent before a comment keeps its connection from idling out."""

Reply = JSONRPCResponse | JSONRPCError

_SSE_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


def dumped(message: Reply | JSONRPCNotification) -> dict[str, Any]:
    """A message as it goes over the wire, to be encoded as JSON."""
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


def encoded(content: object) -> str:
    """JSON on one line. Plain ASCII, which can also carry half of a surrogate pair."""
    return json.dumps(content, separators=(",", ":"))


class EventStream:
    """The response as an SSE stream, from the first thing that is sent on it.

    Until then it is not committed, and the request can still be answered with plain JSON.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = asyncio.Lock()
        self._start: asyncio.Task[None] | None = None

    @property
    def committed(self) -> bool:
        """Whether the response is a stream, begun or about to begin."""
        return self._start is not None

    async def message(self, message: Reply | JSONRPCNotification, *, last: bool = False) -> None:
        """Send a message, as the last one or not."""
        await self._write(f"event: message\r\ndata: {encoded(dumped(message))}\r\n\r\n", last)

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Send a comment whenever a while has passed, for as long as the block lasts."""
        pings: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        # A timer and no task, until it is due: nearly every request is answered before.
        timer = loop.call_later(
            KEEP_ALIVE_SECONDS, lambda: pings.append(loop.create_task(self._ping()))
        )
        try:
            yield
        finally:
            timer.cancel()
            for task in pings:
                task.cancel()
            if pings:
                await asyncio.wait(pings)

    async def _ping(self) -> None:
        while True:
            await self._write(": ping\r\n\r\n", last=False)
            await asyncio.sleep(KEEP_ALIVE_SECONDS)

    async def _write(self, text: str, last: bool) -> None:
        # A handler may notify from several tasks: one of them begins, before any of them writes.
        async with self._lock:
            await self._begin()
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
            # A failure is its writer's to raise. Where that was cancelled, there is nobody.
            self._start.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([self._start])
        self._start.result()


@dataclass
class Exchange:
    """The SDK's ``DispatchContext`` for one POSTed message; satisfied structurally.

    There is no way to ask the client anything: its answer could reach another replica.

    Attributes:
        request_id: of the request; None for a notification.
        progress_token: ``params._meta.progressToken``; without one no progress is reported.
        stream: where notifications go; None drops them.
    """

    transport: TransportContext
    message_metadata: ServerMessageMetadata
    request_id: RequestId | None = None
    progress_token: ProgressToken | None = None
    stream: EventStream | None = None
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    can_send_request: bool = field(default=False, init=False)

    @classmethod
    def of(
        cls,
        request: Request,
        request_id: RequestId | None = None,
        progress_token: ProgressToken | None = None,
        stream: EventStream | None = None,
    ) -> Exchange:
        """The exchange for a message that came with ``request``."""
        transport = TransportContext(
            kind="streamable-http", can_send_request=False, headers=request.headers
        )
        metadata = ServerMessageMetadata(request_context=request)
        return cls(transport, metadata, request_id, progress_token, stream)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """
        Raises:
            NoBackChannelError: always.
        """
        raise NoBackChannelError(method)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification that belongs to this request."""
        if self.stream is not None:
            body = None if params is None else dict(params)
            await self.stream.message(
                JSONRPCNotification(jsonrpc="2.0", method=method, params=body)
            )

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report progress, if the client asked for it."""
        if self.progress_token is None:
            return
        report = {"progress": progress, "total": total, "message": message}
        params = {name: value for name, value in report.items() if value is not None}
        await self.notify("notifications/progress", {"progressToken": self.progress_token} | params)


async def reply_to(request_id: RequestId, call: Awaitable[dict[str, Any]]) -> Reply:
    """The outcome of a dispatched request. What an unknown exception says stays in the log."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - the border: the SDK's function logs what it hides
        return JSONRPCError(jsonrpc="2.0", id=request_id, error=modern_error_data(error))
    return JSONRPCResponse(jsonrpc="2.0", id=request_id, result=result)
