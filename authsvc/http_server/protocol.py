"""One HTTP/1.1 connection, within the limits of its server."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from authsvc.http_server.connection import Connection, Phase
from authsvc.http_server.connections import Connections
from authsvc.http_server.framing import StrictProtocol
from authsvc.http_server.heads import HeadError
from authsvc.http_server.parsing import Part
from authsvc.http_server.responses import plain_response

UNREAD_BYTES = 16 * 1024
"""Bytes of responses that wait for one client, before its app has to wait and the bytes count."""

DROP_STATUSES = {
    "header_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "max_buffered_bytes": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""By reason: the status of the response when a connection is dropped during a request."""


class _DroppedError(Exception):
    """The connection was dropped while its bytes were parsed."""


class BoundedProtocol(StrictProtocol):
    """One connection. A ``ConnectionHandle``.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: state of the app's lifespan.
        connections: all connections of the server.
        connection: this one.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        connections: Connections,
        connection: Connection,
    ) -> None:
        super().__init__(config, server_state, app_state, connections.limits)
        self._connections = connections
        self._connection = connection
        # The request that the app processes; ``cycle`` is the newest one, which may wait behind it.
        self._running: RequestResponseCycle | None = None
        # Nothing more is sent.
        self._has_ended = False

    # The transport calls these (see ``asyncio.Protocol``).

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        self._connection.handle = self
        self._connections.enter(self._connection, Phase.NEW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disconnect()
        super().connection_lost(exc)
        self._connections.lost(self._connection)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.stall(self._connection, self.unread())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._connections.resume(self._connection)

    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            return
        self._unset_keepalive_if_required()
        self._parsing.begin_read()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Upgrades are not offered: the request is served as any other, and is the last one.
            self._finish()
        except httptools.HttpParserError as error:
            self._reject(error.__context__)
        else:
            self._hold_partial(len(data))
        self._enter_phase()

    def _hold_partial(self, count: int) -> None:
        if self._ignores_input:
            return
        try:
            kept = self._parsing.end_read(count)
        except HeadError as error:
            self._reject(error)
            return
        if kept:
            connection = self._connection
            self._connections.hold(connection, connection.received + kept, connection.unread)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            return
        connection = self._connection
        self._connections.hold(connection, connection.received + len(body), connection.unread)
        if self._ignores_input:
            raise _DroppedError

    # uvicorn calls these.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or wait for another one."""
        super().on_response_complete()
        if self.cycle.response_complete:
            kept = self._parsing.partial_bytes if self._parsing.part is Part.HEAD else 0
            self._connections.hold(self._connection, kept, self._connection.unread)
        self._enter_phase()

    # The phase.

    def _enter_phase(self) -> None:
        if (phase := self._phase()) is not self._connection.phase:
            self._connections.enter(self._connection, phase)

    def _phase(self) -> Phase:
        if self._has_ended or self.transport.is_closing():
            return Phase.CLOSING
        running = self._running
        # A body that arrives behind a request that is still being answered does not count: the
        # connection is in use for the earlier request.
        if self._parsing.part is Part.BODY and (
            running is None or running is self.cycle or running.response_complete
        ):
            return Phase.BODY
        newest = self._newest()
        if newest is not None and not newest.response_complete:
            return Phase.ANSWERING
        if self._parsing.part is Part.HEAD:
            return Phase.HEAD
        return Phase.NEW if newest is None else Phase.IDLE

    def _newest(self) -> RequestResponseCycle | None:
        return self.cycle  # uvicorn declares it without None, which it is before the first request

    # The end.

    def _reject(self, cause: BaseException | None) -> None:
        """The bytes that were read are not a request that may be served."""
        if self._ignores_input:
            return
        error = cause if isinstance(cause, HeadError) else HeadError(400, "malformed")
        if self._parsing.part is Part.NONE:  # bytes after the last request
            self._finish()
            return
        self._connections.count_dropped(error.reason, self._connection.address)
        is_behind_another = self._running is not None and not self._running.response_complete
        if is_behind_another and (
            self._parsing.part is Part.HEAD or self._running is not self.cycle
        ):
            self._finish()
        else:
            self._end(error.status)

    def _finish(self) -> None:
        """Answer the requests that are complete, then close."""
        self._ignores_input = True
        if self._parsing.part is Part.BODY and self.pipeline:
            self.pipeline.popleft()  # it will never be complete
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is None or last.response_complete:
            self.transport.close()
        else:
            last.keep_alive = False

    def _end(self, status: int) -> None:
        """Send a response, unless one has begun, and close once the client has read it."""
        self._ignores_input = self._has_ended = True
        is_complete = self._running is not None and self._running.response_complete
        has_begun = self._running is not None and (
            self._running.response_started and not is_complete
        )
        self._disconnect()
        if has_begun:
            self.transport.close()
            return
        if not (is_complete and self._parsing.part is Part.BODY):  # else it has its response
            self.transport.write(plain_response(status))
        # Only the server's side is closed at once. Otherwise bytes that the client still sends
        # would reset the connection, and the response would be lost.
        if self.transport.can_write_eof():
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()
        self._enter_phase()

    def _disconnect(self) -> None:
        """Tell all apps that their client has disconnected; uvicorn tells the newest one alone."""
        self.pipeline.clear()
        for cycle in (self._running, self._newest()):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.flow.resume_writing()

    # ``Connections`` calls these (see ``ConnectionHandle``).

    def drop(self, reason: str) -> None:
        is_arriving = self._parsing.part is not Part.NONE
        if (status := DROP_STATUSES.get(reason)) and is_arriving and not self.unread():
            self._end(status)
        else:
            self.abort()

    def abort(self) -> None:
        self._ignores_input = self._has_ended = True
        self._disconnect()
        self.transport.abort()

    def unread(self) -> int:
        return self.transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def reads(self) -> bool:
        return not self.flow.read_paused
