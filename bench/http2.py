"""gRPC over HTTP/2 (RFC 9113), as little of it as a load generator needs.

A client of gRPC's own takes as much CPU for a call as the server, and an event loop's timers are
late by up to a millisecond. This one takes a fraction, so that what is measured is the server.

Requests are encoded beforehand, and of an answer's trailers only the status is looked for: we
announce a header table of size 0, so that servers spell each header out (RFC 7541 section 4.2).
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from authsvc.client.http2.call import (
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
)
from authsvc.client.http2.flow import DEFAULT_WINDOW
from authsvc.client.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_FRAME_BYTES,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    widen,
)

UNBOUNDED_STREAMS = 2**32 - 1
WIDE_WINDOW = 2**31 - 1
RENEW_BYTES = 2**30
"""Once so much has been received, the window is widened again."""

READ_BYTES = 1 << 18

STATUS_OK = b"grpc-status\x010"
"""How a literal header field that says OK is spelt."""


class ConnectionEndedError(Exception):
    """The server ended the connection."""


class Event(NamedTuple):
    """Something that a server said about one stream.

    Attributes:
        stream: its id.
        message: a message, or None where the stream has ended.
        ok: how it has ended.
    """

    stream: int
    message: bytes | None
    ok: bool


@dataclass(slots=True)
class _Sending:
    """What is left to send on a stream."""

    stream: int
    data: memoryview
    end: bool


class Connection:
    """One connection, in plain text, whose socket never blocks.

    Args:
        target: ``host:port`` or ``unix:/path``.
        method: the RPC that all its streams call, such as ``/package.Service/Method``.

    Raises:
        OSError: it cannot be reached.
    """

    def __init__(self, target: str, method: str) -> None:
        self.socket = _connect(target)
        self._first_headers, self._headers = _header_blocks(method)
        self._next_stream = 1
        self._out = bytearray(PREFACE)
        settings = (HEADER_TABLE_SIZE, 0, INITIAL_WINDOW_SIZE, WIDE_WINDOW)
        self._out += frame(SETTINGS, 0, 0, struct.pack(">HIHI", *settings))
        self._out += widen(0, WIDE_WINDOW - DEFAULT_WINDOW)
        self._in = bytearray()
        self._messages: dict[int, bytearray] = {}
        self._received: dict[int, int] = {0: 0}
        self._blocked: deque[_Sending] = deque()
        self._window = DEFAULT_WINDOW
        self._stream_windows: dict[int, int] = {}
        self._initial_window = DEFAULT_WINDOW
        self._largest_frame = MAX_FRAME_BYTES
        self._most_streams = 0

    @property
    def open_streams(self) -> int:
        """How many streams have begun and not ended."""
        return len(self._messages)

    @property
    def may_open(self) -> bool:
        """Whether the server allows one more stream now. It says how many with its first frame."""
        return self.open_streams < self._most_streams

    @property
    def wants_to_write(self) -> bool:
        """Whether the socket has not taken all yet."""
        return bool(self._out)

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.socket.close()

    def open(self) -> int:
        """Begin a stream; its id."""
        stream = self._next_stream
        block = self._first_headers if stream == 1 else self._headers
        self._next_stream += 2
        self._out += frame(HEADERS, END_HEADERS, stream, block)
        self._messages[stream] = bytearray()
        self._stream_windows[stream] = self._initial_window
        return stream

    def send(self, stream: int, message: bytes, *, end: bool) -> None:
        """Queue a message, the stream's last one if ``end``."""
        data = memoryview(b"\0" + len(message).to_bytes(4) + message)
        self._blocked.append(_Sending(stream, data, end))

    def flush(self) -> None:
        """Hand the socket what it takes, as far as the server's windows allow.

        Raises:
            OSError: the connection broke.
        """
        while self._blocked and self._send_frame(self._blocked[0]):
            self._blocked.popleft()
        if self._out:
            with suppress(BlockingIOError):
                del self._out[: self.socket.send(self._out)]

    def receive(self) -> list[Event]:
        """All that has arrived.

        Raises:
            ConnectionEndedError: the server has closed it, or is about to.
            OSError: the connection broke.
        """
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionEndedError("the server closed the connection")
        self._in += data
        events: list[Event] = []
        start = 0
        while len(self._in) - start >= 9:
            length = int.from_bytes(self._in[start : start + 3])
            end = start + 9 + length
            if len(self._in) < end:
                break
            kind, flags = self._in[start + 3], self._in[start + 4]
            stream = int.from_bytes(self._in[start + 5 : start + 9]) & WIDE_WINDOW
            self._take(kind, flags, stream, bytes(self._in[start + 9 : end]), events)
            start = end
        del self._in[:start]
        return events

    def _send_frame(self, sending: _Sending) -> bool:
        """Send what may be sent; whether nothing is left."""
        while sending.stream in self._stream_windows:
            room = min(self._window, self._stream_windows[sending.stream])
            size = min(len(sending.data), room, self._largest_frame)
            if size == 0:
                return False
            done = size == len(sending.data)
            flags = END_STREAM if sending.end and done else 0
            self._out += frame(DATA, flags, sending.stream, sending.data[:size])
            self._window -= size
            self._stream_windows[sending.stream] -= size
            if done:
                return True
            sending.data = sending.data[size:]
        return True  # the server has ended the stream without waiting for it

    def _take(self, kind: int, flags: int, stream: int, body: bytes, events: list[Event]) -> None:
        if kind == DATA:
            self._take_data(stream, body, events)
        elif kind == HEADERS and flags & END_STREAM:
            self._end(stream, STATUS_OK in body, events)
        elif kind == RST_STREAM:
            self._end(stream, False, events)
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(body)
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, body)
        elif kind == WINDOW_UPDATE:
            if stream == 0:
                self._window += int.from_bytes(body)
            elif stream in self._stream_windows:
                self._stream_windows[stream] += int.from_bytes(body)
        elif kind == GOAWAY:
            raise ConnectionEndedError("the server ends the connection, perhaps because of its age")

    def _take_data(self, stream: int, body: bytes, events: list[Event]) -> None:
        for scope in (0, stream):
            received = self._received.get(scope, 0) + len(body)
            if received >= RENEW_BYTES:
                self._out += widen(scope, received)
                received = 0
            self._received[scope] = received
        partial = self._messages.get(stream)
        if partial is None:
            return
        partial += body
        while len(partial) >= 5 and len(partial) >= (end := 5 + int.from_bytes(partial[1:5])):
            events.append(Event(stream, bytes(partial[5:end]), True))
            del partial[:end]

    def _take_settings(self, body: bytes) -> None:
        self._most_streams = self._most_streams or UNBOUNDED_STREAMS
        for name, value in struct.iter_unpack(">HI", body):
            if name == INITIAL_WINDOW_SIZE:
                for stream in self._stream_windows:
                    self._stream_windows[stream] += value - self._initial_window
                self._initial_window = value
            elif name == MAX_FRAME_SIZE:
                self._largest_frame = value
            elif name == MAX_CONCURRENT_STREAMS:
                self._most_streams = value
        self._out += frame(SETTINGS, ACK, 0, b"")

    def _end(self, stream: int, ok: bool, events: list[Event]) -> None:
        if self._messages.pop(stream, None) is not None:
            self._stream_windows.pop(stream, None)
            self._received.pop(stream, None)
            events.append(Event(stream, None, ok))


def _connect(target: str) -> socket.socket:
    if target.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(target.removeprefix("unix:"))
    else:
        host, _, port = target.rpartition(":")
        connection = socket.create_connection((host.strip("[]"), int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


def _header_blocks(method: str) -> tuple[bytes, bytes]:
    """The request headers (RFC 7541): spelt out and put into the table the first time, then by
    their places in it, as gRPC does."""
    spelt = (
        b"\x83\x86",  # :method POST, :scheme http
        b"\x44" + _string(method),  # :path
        b"\x41" + _string("localhost"),  # :authority
        b"\x5f" + _string("application/grpc"),  # content-type
        b"\x40" + _string("te") + _string("trailers"),
    )
    return b"".join(spelt), b"\x83\x86\xc1\xc0\xbf\xbe"


def _string(text: str) -> bytes:
    if len(text) >= 127:
        raise ValueError("longer strings take another form")
    return bytes((len(text),)) + text.encode("ascii")
