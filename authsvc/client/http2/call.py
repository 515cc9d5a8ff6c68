"""One bidirectional gRPC call on an HTTP/2 connection of its own, from the client's side, without
I/O: received bytes go in, bytes to send come out."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Protocol

from authsvc.client.http2 import status
from authsvc.client.http2.flow import DEFAULT_WINDOW, RECEIVE_WINDOW, ReceiveWindow, SendWindow
from authsvc.client.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_FRAME_BYTES,
    PADDED,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    FrameReader,
    Http2Error,
    frame,
    widen,
    without_padding,
)
from authsvc.client.http2.header_blocks import (
    MAX_BLOCK_BYTES,
    HeaderBlocks,
    Headers,
    request_block,
)
from authsvc.client.http2.messages import MessageReader
from authsvc.client.http2.status import CallEnd

STREAM_ID = 1
"""Of the one stream: a client's first."""

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6
"""Settings (RFC 9113 section 6.5.2)."""

MAX_INTERIM_RESPONSES = 16
"""Responses of status 1xx before the response. No gRPC server sends one; to decode a flood of them
would keep the event loop for long."""

_SETTINGS = (
    (HEADER_TABLE_SIZE, 0),
    (ENABLE_PUSH, 0),
    (INITIAL_WINDOW_SIZE, RECEIVE_WINDOW),
    (MAX_HEADER_LIST_SIZE, MAX_BLOCK_BYTES),
)

_MESSAGE_HEAD = b"%c%c%b\x00" % (DATA, 0, STREAM_ID.to_bytes(4))
"""What stands between the length of a DATA frame and that of the message in it."""


class Listener(Protocol):
    """What a call is made for."""

    def message_received(self, message: bytes) -> None:
        """The server has sent a message."""
        ...

    def call_ended(self, end: CallEnd) -> None:
        """Nothing more is received. Called once."""
        ...


class GrpcCall:
    """A call, from the first byte of its connection.

    Args:
        authority: whom it is made to.
        scheme: ``http`` or ``https``.
        details_key: the trailer that has the details of a status.
    """

    def __init__(self, authority: str, scheme: str, details_key: str) -> None:
        settings = b"".join(struct.pack(">HI", *setting) for setting in _SETTINGS)
        self.output = [
            PREFACE,
            frame(SETTINGS, 0, 0, settings),
            widen(0, RECEIVE_WINDOW - DEFAULT_WINDOW),
        ]
        """What is to be sent, in order. Cleared by its sender."""
        self.is_connected = False
        """Whether the peer has sent its settings: it speaks HTTP/2."""
        self.is_going_away = False
        """Whether the peer takes no new call."""
        self.end: CallEnd | None = None
        """How it has ended."""
        self._authority, self._scheme = authority, scheme
        self._details_key = details_key.encode()
        self._listener: Listener | None = None
        self._frames = FrameReader()
        self._messages = MessageReader()
        self._header_blocks = HeaderBlocks()
        self._ends_stream = False
        self._is_answered = False
        self._interim_responses = 0
        self._receive_window = ReceiveWindow()
        self._window = SendWindow()
        self._max_frame_bytes = MAX_FRAME_BYTES
        self._max_streams = 1
        self._unsent = memoryview(b"")
        self._is_finishing = False
        self._handlers = {
            HEADERS: self._headers,
            CONTINUATION: self._continuation,
            RST_STREAM: self._reset,
            SETTINGS: self._settings,
            PUSH_PROMISE: self._push,
            PING: self._ping,
            GOAWAY: self._go_away,
            WINDOW_UPDATE: self._window_update,
        }

    @property
    def may_begin(self) -> bool:
        """Whether the peer accepts a call."""
        return self.is_connected and not self.is_going_away and self._max_streams > 0

    @property
    def may_send(self) -> bool:
        """Whether a message would be sent at once, at least in part."""
        return not self._unsent and self._window.available > 0

    @property
    def may_proceed(self) -> bool:
        """Whether the window permits to send at all."""
        return self._window.available > 0

    def begin(self, path: str, metadata: Iterable[tuple[str, str]], listener: Listener) -> None:
        """Begin the call."""
        self._listener = listener
        block = request_block(path, self._authority, self._scheme, metadata)
        first, *others = _cut(block, self._max_frame_bytes)
        kind = HEADERS
        for part in (first, *others):
            flags = END_HEADERS if part is (others or [first])[-1] else 0
            self.output.append(frame(kind, flags, STREAM_ID, part))
            kind = CONTINUATION

    def send(self, parts: Sequence[bytes], size: int) -> None:
        """Send a message; to be called while ``may_send``.

        Args:
            parts: the message, in pieces.
            size: of all of them, in bytes.
        """
        total = size + 5
        if total <= self._max_frame_bytes and total <= self._window.available:
            self._window.take(total)
            self.output.append(total.to_bytes(3) + _MESSAGE_HEAD + size.to_bytes(4))
            self.output += parts
            return
        self._unsent = memoryview(b"".join((b"\0", size.to_bytes(4), *parts)))
        self.proceed()

    def proceed(self) -> None:
        """Go on with a message of which the window has not permitted all."""
        while self._unsent and (room := self._window.available) > 0:
            part = self._unsent[: min(room, self._max_frame_bytes)]
            self._unsent = self._unsent[len(part) :]
            self._window.take(len(part))
            self.output.append(frame(DATA, 0, STREAM_ID, part))
        if self._is_finishing and not self._unsent:
            self._is_finishing = False
            self.output.append(frame(DATA, END_STREAM, STREAM_ID))

    def finish(self) -> None:
        """Send no more messages; to be called once."""
        self._is_finishing = True
        self.proceed()

    def fail(self, end: CallEnd) -> None:
        """End the call from this side, unless it has ended."""
        if self.end is None:
            self.end = end
            self._unsent = memoryview(b"")
            self.output.clear()
            if self._listener is not None:
                self._listener.call_ended(end)

    def receive(self, data: bytes) -> None:
        """Take in what the peer has sent; to be called while the call has not ended.

        Raises:
            Http2Error: the peer broke a rule.
        """
        for kind, flags, stream_id, payload in self._frames.frames(data):
            if kind == DATA:
                self._data(flags, stream_id, payload)
            else:
                self._control(kind, flags, stream_id, payload)
            if self.end is not None:
                return

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._header_blocks.is_incomplete and kind != CONTINUATION:
            raise _broken("headers are interrupted")
        if not self.is_connected and (kind != SETTINGS or flags & ACK):
            raise _broken("the first frame is not SETTINGS")
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(flags, stream_id, payload)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        listener = self._listener
        if (
            stream_id != STREAM_ID
            or listener is None
            or not self._is_answered
            or self._header_blocks.is_incomplete
        ):
            raise _broken("DATA without a response")
        if increment := self._receive_window.receive(len(payload)):
            self.output += (widen(0, increment), widen(STREAM_ID, increment))
        if flags & PADDED:
            payload = without_padding(flags, payload)
        for message in self._messages.messages(payload):
            listener.message_received(message)
        if flags & END_STREAM:
            self.fail(status.of_trailers({}, self._details_key))

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_stream(stream_id)
        self._ends_stream = bool(flags & END_STREAM)
        self._headers_complete(self._header_blocks.begin(flags, payload))

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._header_blocks.is_incomplete or stream_id != STREAM_ID:
            raise _broken("CONTINUATION without HEADERS")
        self._headers_complete(self._header_blocks.proceed(flags, payload))

    def _headers_complete(self, headers: Headers | None) -> None:
        if headers is None:
            return
        if self._ends_stream:
            self.fail(status.of_trailers(headers, self._details_key))
        elif self._is_answered:
            raise _broken("trailers do not end the stream")
        else:
            self._response(headers)

    def _response(self, headers: Headers) -> None:
        code = headers.get(b":status", b"")
        if len(code) == 3 and code.startswith(b"1"):
            self._interim_responses += 1
            if self._interim_responses > MAX_INTERIM_RESPONSES:
                raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many interim responses")
            return
        if code != b"200" or not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            self.fail(status.of_http(code))
        self._is_answered = True

    def _reset(self, _: int, stream_id: int, payload: bytes) -> None:
        self._check_stream(stream_id)
        _check_size(payload, 4)
        self.fail(status.of_reset(int.from_bytes(payload)))

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_connection(stream_id)
        if len(payload) % 6 or (flags & ACK and payload):
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has an invalid size")
        if flags & ACK:
            return
        for name, value in struct.iter_unpack(">HI", payload):
            self._set(name, value)
        self.is_connected = True
        self.output.append(frame(SETTINGS, ACK, 0))

    def _set(self, name: int, value: int) -> None:
        if name == INITIAL_WINDOW_SIZE:
            self._window.set_initial(value)
        elif name == MAX_CONCURRENT_STREAMS:
            self._max_streams = value
        elif name == MAX_FRAME_SIZE:
            if not MAX_FRAME_BYTES <= value < 1 << 24:
                raise _broken("SETTINGS_MAX_FRAME_SIZE is invalid")
            self._max_frame_bytes = value
        elif name == ENABLE_PUSH and value:
            raise _broken("a server enables push")

    def _push(self, _: int, __: int, ___: bytes) -> None:
        raise _broken("PUSH_PROMISE, which is disabled")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _check_connection(stream_id)
        _check_size(payload, 8)
        if not flags & ACK:
            self.output.append(frame(PING, ACK, 0, payload))

    def _go_away(self, _: int, stream_id: int, payload: bytes) -> None:
        _check_connection(stream_id)
        if len(payload) < 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too small")
        self.is_going_away = True
        last = int.from_bytes(payload[:4]) & 0x7FFF_FFFF
        if self._listener is not None and last < STREAM_ID:
            self.fail(status.lost("the connection has ended", unprocessed=True))

    def _window_update(self, _: int, stream_id: int, payload: bytes) -> None:
        _check_size(payload, 4)
        if stream_id:
            self._check_stream(stream_id)
        self._window.widen(stream_id, int.from_bytes(payload) & 0x7FFF_FFFF)

    def _check_stream(self, stream_id: int) -> None:
        if stream_id != STREAM_ID or self._listener is None:
            raise _broken("a frame of a stream that is not open")


def _cut(block: bytes, size: int) -> list[bytes]:
    return [block[at : at + size] for at in range(0, len(block), size)]


def _check_connection(stream_id: int) -> None:
    if stream_id:
        raise _broken("a frame of the connection on a stream")


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a frame has an invalid size")


def _broken(text: str) -> Http2Error:
    return Http2Error(ErrorCode.PROTOCOL_ERROR, text)
