"""Frames of HTTP/2 (RFC 9113 sections 4 and 6): building them, and cutting a byte stream into
them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
"""Types of frames."""

END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
"""Flags. Which apply depends on the type."""

HEAD_BYTES = 9
"""Size of a frame's head."""

MAX_FRAME_BYTES = 16_384
"""The largest payload unless SETTINGS permit a larger one (RFC 9113 section 4.2), and ours."""

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream id, payload."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC


class Http2Error(Exception):
    """The peer broke a rule of the protocol, or exceeded a bound. Ends the connection.

    Args:
        code: sent to the peer.
        text: which rule. Never holds anything that the peer sent.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame."""
    head = b"%b%c%c%b" % (len(payload).to_bytes(3), kind, flags, stream_id.to_bytes(4))
    return head + payload


def widen(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE.

    Args:
        stream_id: 0 for the connection.
        increment: bytes, 1 at least.
    """
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))


def go_away(code: ErrorCode) -> bytes:
    """A GOAWAY of a client, whose server has begun no streams."""
    return frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4))


def without_padding(flags: int, payload: bytes) -> bytes:
    """The content of a DATA or HEADERS frame.

    Raises:
        Http2Error: the padding does not fit in the frame.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame")
    return payload[1 : len(payload) - payload[0]]


class FrameReader:
    """Cuts the bytes that a peer sends into frames. Keeps the bytes of at most one frame."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = HEAD_BYTES

    def frames(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes, to be read to the last.

        Raises:
            Http2Error: a frame is too large.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        position, size = 0, len(data)
        self._needed = HEAD_BYTES
        while size - position >= HEAD_BYTES:
            length = int.from_bytes(data[position : position + 3])
            if length > MAX_FRAME_BYTES:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            start = position + HEAD_BYTES
            if start + length > size:
                self._needed = HEAD_BYTES + length
                break
            # The first bit of a stream id is reserved, and ignored.
            stream_id = int.from_bytes(data[position + 5 : start]) & 0x7FFF_FFFF
            position = start + length
            yield data[start - 6], data[start - 5], stream_id, data[start:position]
        if position < size:
            self._rest += data[position:]
