"""How a gRPC call has ended, by its trailers, by HTTP or by HTTP/2.

See gRPC's documents "gRPC over HTTP2" and "HTTP to gRPC Status Code Mapping".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from authsvc.client.http2.frames import ErrorCode

_CODES: dict[bytes, grpc.StatusCode] = {b"%d" % code.value[0]: code for code in grpc.StatusCode}

_OF_HTTP = {
    b"400": grpc.StatusCode.INTERNAL,
    b"401": grpc.StatusCode.UNAUTHENTICATED,
    b"403": grpc.StatusCode.PERMISSION_DENIED,
    b"404": grpc.StatusCode.UNIMPLEMENTED,
    **dict.fromkeys((b"429", b"502", b"503", b"504"), grpc.StatusCode.UNAVAILABLE),
}

_OF_RESET = {
    ErrorCode.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: grpc.StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call has ended.

    Attributes:
        code: its status.
        details: the ``google.rpc.Status`` of its trailers, encoded; None without one.
        cause: why, where this side found that out; empty otherwise. Holds nothing that a peer sent.
        unprocessed: whether the peer has certainly not begun the call.
    """

    code: grpc.StatusCode
    details: bytes | None = field(default=None, repr=False)
    cause: str = ""
    unprocessed: bool = False


def lost(cause: str, *, unprocessed: bool = False) -> CallEnd:
    """The end of a call whose connection is of no more use."""
    return CallEnd(grpc.StatusCode.UNAVAILABLE, cause=cause, unprocessed=unprocessed)


def of_trailers(headers: Mapping[bytes, bytes], details_key: bytes) -> CallEnd:
    """By its last headers.

    Args:
        headers: with ``grpc-status``, or without one where no gRPC server answered.
        details_key: the trailer with the ``google.rpc.Status``.
    """
    text = headers.get(b"grpc-status")
    if text is None:
        return of_http(headers.get(b":status", b""))
    code = _CODES.get(text, grpc.StatusCode.UNKNOWN)
    return CallEnd(code, details=_binary(headers.get(details_key)))


def of_http(status: bytes) -> CallEnd:
    """By the status of an HTTP response that is none of gRPC."""
    code = _OF_HTTP.get(status, grpc.StatusCode.UNKNOWN)
    return CallEnd(code, cause="the answer is not gRPC")


def of_reset(code: int) -> CallEnd:
    """By the error code of an RST_STREAM."""
    known = ErrorCode(code) if code in set(ErrorCode) else ErrorCode.INTERNAL_ERROR
    return CallEnd(
        _OF_RESET.get(known, grpc.StatusCode.INTERNAL),
        cause="the call was reset",
        unprocessed=known is ErrorCode.REFUSED_STREAM,
    )


def _binary(value: bytes | None) -> bytes | None:
    """The bytes in a header whose name ends with ``-bin``; None where they cannot be decoded."""
    if value is None:
        return None
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return None
