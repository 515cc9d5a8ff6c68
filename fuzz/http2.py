"""Fuzzed functions: what a peer sends on the connection of a client's stream."""

from __future__ import annotations

from authsvc.client.http2.call import STREAM_ID, GrpcCall
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
    RST_STREAM,
    SETTINGS,
    Frame,
    FrameReader,
    Http2Error,
    frame,
    widen,
)
from authsvc.client.http2.messages import MAX_MESSAGE_BYTES
from authsvc.client.http2.status import CallEnd

_REQUEST = b"r" * 100_000
"""More than a window at the beginning permits."""

_RESPONSE = b"\x88\x0f\x10\x10application/grpc"
"""``:status: 200`` and the content type, encoded without a header table."""


class _Recorder:
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.end: CallEnd | None = None

    def message_received(self, message: bytes) -> None:
        self.sizes.append(len(message))

    def call_ended(self, end: CallEnd) -> None:
        assert self.end is None
        self.end = end


def http2_verdict(data: bytes) -> str:
    """Why the connection ends after these bytes; empty while it does not.

    Any other exception is a finding, and so are bytes that mean something else in other segments,
    and frames that are larger than they may be.
    """
    whole = _received((data,))
    assert whole == _received(tuple(data[at : at + 7] for at in range(0, len(data), 7)))
    return whole[0]


def _received(segments: tuple[bytes, ...]) -> tuple[str, list[int], CallEnd | None]:
    """The verdict, the sizes of the messages, and the end of the call."""
    recorder = _Recorder()
    call = GrpcCall("authsvc", "http", "grpc-status-details-bin")
    call.receive(frame(SETTINGS, 0, 0))
    call.begin("/a.B/C", (), recorder)
    call.send((_REQUEST,), len(_REQUEST))
    call.finish()
    verdict = ""
    try:
        for segment in segments:
            if recorder.end is None:
                call.receive(segment)
                call.proceed()
    except Http2Error as error:
        verdict = error.code.name
    assert max(recorder.sizes, default=0) <= MAX_MESSAGE_BYTES
    sent = b"".join(call.output).removeprefix(PREFACE)
    assert sum(len(it[3]) for it in _frames(sent) if it[0] == DATA) <= len(_REQUEST) + 5
    return verdict, recorder.sizes, recorder.end


def _frames(sent: bytes) -> list[Frame]:
    """What was sent, if the peer permits frames of no more than the smallest maximum."""
    try:
        return list(FrameReader().frames(sent))
    except Http2Error:
        return []


def seeds() -> dict[str, bytes]:
    """Inputs by name."""
    response = frame(HEADERS, END_HEADERS, STREAM_ID, _RESPONSE)
    message = b"\0\0\0\0\x06answer"
    ok = frame(HEADERS, END_HEADERS | END_STREAM, STREAM_ID, b"\x00\x0bgrpc-status\x010")
    settings = frame(SETTINGS, 0, 0, bytes.fromhex("000400000010 000500004000"))
    return {
        "answer": response + frame(DATA, 0, STREAM_ID, message) + ok,
        "padded": response + frame(DATA, PADDED, STREAM_ID, b"\x02" + message + bytes(2)) + ok,
        "cut": response
        + frame(DATA, 0, STREAM_ID, message[:3])
        + frame(DATA, 0, STREAM_ID, message[3:] + message),
        "compressed": response + frame(DATA, 0, STREAM_ID, b"\x01" + message[1:]),
        "large": response + frame(DATA, 0, STREAM_ID, b"\0\xff\xff\xff\xff"),
        "windows": settings + widen(0, 100) + widen(STREAM_ID, 2**31 - 1),
        "narrow": settings + widen(STREAM_ID, 5) + settings,
        "continued": frame(HEADERS, 0, STREAM_ID, _RESPONSE[:9])
        + frame(CONTINUATION, 0, STREAM_ID)
        + frame(CONTINUATION, END_HEADERS, STREAM_ID, _RESPONSE[9:]),
        "interrupted": frame(HEADERS, 0, STREAM_ID, _RESPONSE) + frame(PING, 0, 0, bytes(8)),
        "ping": frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, bytes(8)),
        "going-away": frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)) + response + ok,
        "not-read": frame(GOAWAY, 0, 0, bytes(8) + b"debug"),
        "reset": frame(RST_STREAM, 0, STREAM_ID, (7).to_bytes(4)),
        "table": frame(HEADERS, END_HEADERS, STREAM_ID, b"\x3f\xe1\x1f" + _RESPONSE),
        "unknown": frame(0x42, 0xFF, 7, b"x" * 20) + (MAX_FRAME_BYTES + 1).to_bytes(3) + bytes(6),
        "http-1": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    }
