"""The server's side of a connection, byte by byte: what no real server can be made to send."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hpack import Encoder

from authsvc.client.http2.call import GrpcCall
from authsvc.client.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    FrameReader,
    frame,
)
from authsvc.client.http2.status import CallEnd
from authsvc.wire.errors import STATUS_DETAILS_KEY

RESPONSE = ((":status", "200"), ("content-type", "application/grpc"))
TRAILERS = (("grpc-status", "0"),)

Header = tuple[str, str]


def settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS, by number and value."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def block(headers: Iterable[Header]) -> bytes:
    """Headers as a server encodes them that may keep no header table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(list(headers)))


def headers(*given: Header, end: bool = False, stream_id: int = 1) -> bytes:
    """HEADERS in one frame."""
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(HEADERS, flags, stream_id, block(given))


def message(content: bytes) -> bytes:
    """A gRPC message with its prefix."""
    return b"\0" + len(content).to_bytes(4) + content


def data(content: bytes, *, flags: int = 0, stream_id: int = 1) -> bytes:
    """DATA with this content."""
    return frame(DATA, flags, stream_id, content)


def reset(code: int, stream_id: int = 1) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4))


def go_away(last_stream_id: int, code: int = 0, text: bytes = b"") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, last_stream_id.to_bytes(4) + code.to_bytes(4) + text)


class Recorder:
    """What a call tells its caller."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.end: CallEnd | None = None

    def message_received(self, message: bytes) -> None:
        """A message."""
        self.messages.append(message)

    def call_ended(self, end: CallEnd) -> None:
        """Its end."""
        assert self.end is None, "ended twice"
        self.end = end


def new_call() -> GrpcCall:
    """A call whose connection has just been made."""
    return GrpcCall("authsvc.example:50051", "http", STATUS_DETAILS_KEY)


def begun(*pairs: tuple[int, int]) -> tuple[GrpcCall, Recorder]:
    """A call that has begun, its peer's settings received; nothing is left to send."""
    call, recorder = new_call(), Recorder()
    call.receive(settings(*pairs))
    call.begin("/a.B/C", (("authorization", "Bearer t"),), recorder)
    call.output.clear()
    return call, recorder


def answered(*pairs: tuple[int, int]) -> tuple[GrpcCall, Recorder]:
    """As ``begun``, with the response's headers received."""
    call, recorder = begun(*pairs)
    call.receive(headers(*RESPONSE))
    return call, recorder


def sent(call: GrpcCall) -> list[tuple[int, int, int, bytes]]:
    """The frames that a call has sent since it was asked last: type, flags, stream, payload.

    A frame that is larger than the peer's own limit fails.
    """
    output = b"".join(call.output)
    call.output.clear()
    return list(FrameReader().frames(output.removeprefix(PREFACE)))


def content(call: GrpcCall) -> bytes:
    """The DATA that a call has sent since it was asked last."""
    return b"".join(payload for kind, _, _, payload in sent(call) if kind == DATA)


def settings_ack() -> tuple[int, int, int, bytes]:
    """The acknowledgement of settings, as ``sent`` has it."""
    return SETTINGS, ACK, 0, b""
