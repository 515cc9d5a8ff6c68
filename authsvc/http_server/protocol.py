"""One HTTP/1.1 connection: uvicorn's with httptools, held to limits, and strict about framing."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from authsvc.http_server.connections import Connection, Connections, Phase
from authsvc.http_server.heads import HeadError, check, check_upgrade

UNREAD_BYTES = 16 * 1024
"""Of one connection, before its app is made to wait and its unread bytes count."""

ANSWERS = {
    "header_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "max_buffered_bytes": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""To clients that are dropped in the middle of a request, by reason."""


class _Parsing(Enum):
    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class _DroppedError(Exception):
    """The connection was dropped while its bytes were parsed."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: of the lifespan.
        connections: among which it is.
        connection: itself there.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        connections: Connections,
        connection: Connection,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._connections = connections
        self._connection = connection
        self._limits = connections.limits
        self._running: RequestResponseCycle | None = None
        self._parsing = _Parsing.NOTHING
        self._head_bytes = 0
        self._partial_bytes = 0
        # The bytes that are being parsed have ended a head, or were of a body.
        self._has_advanced = False
        # No byte that follows is looked at.
        self._ignores_input = False
        # Nothing more is sent.
        self._has_ended = False

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        """See ``asyncio.Protocol``, as for all that follows."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        self._connection.wire = self
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
        self._has_advanced = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Not offered: the request is served as any other, and is the last.
            self._finish()
        except httptools.HttpParserError as error:
            self._refuse(error.__context__)
        else:
            self._count_partial(len(data))
        self._settle()

    def _count_partial(self, fed: int) -> None:
        """Bytes of a head or of trailers that are not whole are in the parser's memory alone."""
        if self._parsing is _Parsing.NOTHING or self._has_advanced or self._ignores_input:
            return
        self._partial_bytes += fed
        if self._partial_bytes > self._limits.max_header_bytes:
            self._refuse(HeadError(431, "head_too_large"))
            return
        connection = self._connection
        self._connections.hold(connection, connection.received + fed, connection.unread)

    # The parser

    def on_message_begin(self) -> None:
        """See ``httptools``, as for all that follows."""
        self._parsing = _Parsing.HEAD
        self._head_bytes = self._partial_bytes = 0
        if len(self.pipeline) >= self._limits.max_pipelined:
            raise HeadError(400, "pipelined")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        # What follows a body in chunks are no headers, whatever they call themselves.
        if self._parsing is _Parsing.HEAD:
            if len(self.headers) >= self._limits.max_headers:
                raise HeadError(431, "head_too_large")
            super().on_header(name, value.rstrip(b" \t"))

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > self._limits.max_header_bytes:
            raise HeadError(431, "head_too_large")

    def on_headers_complete(self) -> None:
        check(self.parser.get_http_version(), self.headers)
        if self.parser.should_upgrade():
            check_upgrade(self.parser.get_method(), self.headers)
        super().on_headers_complete()
        self._parsing = _Parsing.BODY
        self._partial_bytes = 0
        self._has_advanced = True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._partial_bytes = 0
        self._has_advanced = True
        if self.cycle.response_complete:
            return
        super().on_body(body)
        connection = self._connection
        self._connections.hold(connection, connection.received + len(body), connection.unread)
        if self._ignores_input:
            raise _DroppedError

    def on_message_complete(self) -> None:
        self._parsing = _Parsing.NOTHING
        self._has_advanced = True
        super().on_message_complete()
        if not self.parser.should_keep_alive():
            self._ignores_input = True

    def on_response_complete(self) -> None:
        """An answer is whole: a pipelined request is begun, or another one waited for."""
        super().on_response_complete()
        if self.cycle.response_complete:
            kept = self._partial_bytes if self._parsing is _Parsing.HEAD else 0
            self._connections.hold(self._connection, kept, self._connection.unread)
        self._settle()

    def _settle(self) -> None:
        """Say what is waited for from now on."""
        if (phase := self._phase()) is not self._connection.phase:
            self._connections.enter(self._connection, phase)

    def _phase(self) -> Phase:
        if self._has_ended or self.transport.is_closing():
            return Phase.CLOSING
        running = self._running
        # While an earlier request is being answered, that is what the connection is for.
        if self._parsing is _Parsing.BODY and (
            running is None or running is self.cycle or running.response_complete
        ):
            return Phase.BODY
        newest = self._newest()
        if newest is not None and not newest.response_complete:
            return Phase.ANSWERING
        if self._parsing is _Parsing.HEAD:
            return Phase.HEAD
        return Phase.NEW if newest is None else Phase.IDLE

    def _newest(self) -> RequestResponseCycle | None:
        return self.cycle

    # The end

    def _refuse(self, cause: BaseException | None) -> None:
        """What was read is no request that may be served."""
        if self._ignores_input:
            return
        refused = cause if isinstance(cause, HeadError) else HeadError(400, "malformed")
        if self._parsing is _Parsing.NOTHING:  # it came after the last request
            self._finish()
            return
        self._connections.note(refused.reason, self._connection.address)
        earlier = self._running is not None and not self._running.response_complete
        if earlier and (self._parsing is _Parsing.HEAD or self._running is not self.cycle):
            self._finish()
        else:
            self._end(refused.status)

    def _finish(self) -> None:
        """Answer what was read, and nothing after it."""
        self._ignores_input = True
        if self._parsing is _Parsing.BODY and self.pipeline:
            self.pipeline.popleft()  # it will never be whole
        last = self.pipeline[0][0] if self.pipeline else self._running
        if last is None or last.response_complete:
            self.transport.close()
        else:
            last.keep_alive = False

    def drop(self, reason: str) -> None:
        """See ``Wire``, as for all that follows."""
        is_arriving = self._parsing is not _Parsing.NOTHING
        if (status := ANSWERS.get(reason)) and is_arriving and not self.unread():
            self._end(status)
        else:
            self.abort()

    def _end(self, status: int) -> None:
        """Answer with a status if no answer has begun, and close once the client has read it."""
        self._ignores_input = self._has_ended = True
        is_whole = self._running is not None and self._running.response_complete
        has_begun = self._running is not None and (self._running.response_started and not is_whole)
        self._disconnect()
        if has_begun:
            self.transport.close()
            return
        if not (is_whole and self._parsing is _Parsing.BODY):  # else it has its answer
            self.transport.write(answer(status))
        # Closed at once, what the client still sends would have the answer thrown away.
        if self.transport.can_write_eof():
            self.flow.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()
        self._settle()

    def abort(self) -> None:
        self._ignores_input = self._has_ended = True
        self._disconnect()
        self.transport.abort()

    def _disconnect(self) -> None:
        """Let apps know that their client is gone: uvicorn tells the newest request alone."""
        self.pipeline.clear()
        for cycle in (self._running, self._newest()):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.flow.resume_writing()

    def unread(self) -> int:
        return self.transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def reads(self) -> bool:
        return not self.flow.read_paused


def answer(status: int) -> bytes:
    """A whole answer without a reason for machines, after which the connection is closed.

    Args:
        status: of HTTP.
    """
    phrase = HTTPStatus(status).phrase
    again = "retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(phrase)}\r\n{again}connection: close\r\n\r\n{phrase}"
    ).encode()
