"""Requests and entries of ``ResolveSessionStream`` as bytes, without parsing the messages in
them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from authsvc.domain.errors import AuthError, Reason
from authsvc.v1 import auth_pb2 as pb


def request_digest(encoded: bytes) -> bytes:
    """The key of a request in the response cache: the SHA-256 of its bytes, token included."""
    return hashlib.sha256(encoded).digest()


def request_of(encoded: bytes) -> pb.ResolveSessionRequest:
    """The decoded request.

    Raises:
        AuthError: ARGUMENT_INVALID: the bytes are no request.
    """
    try:
        return pb.ResolveSessionRequest.FromString(encoded)
    except DecodeError:
        raise AuthError(Reason.ARGUMENT_INVALID, "no ResolveSessionRequest") from None


def entry_head(request_id: int, result: int, size: int) -> bytes:
    """The bytes before a message that make it an entry of a ``ResolveSessionStreamResponse``.

    A message's encoding is that of its fields one after the other, so that entries can be put
    together without parsing or copying what they hold (protobuf.dev, "Encoding").

    Args:
        request_id: of the request.
        result: which field: RESPONSE or ERROR.
        size: bytes of the encoded ``ResolveSessionResponse`` or ``google.rpc.Status``.
    """
    head = b"\x08%b%c%b" % (_varint(request_id), result, _varint(size))
    return b"\x0a%b%b" % (_varint(len(head) + size), head)


def request_entry(request_id: int, request: bytes, traceparent: str) -> tuple[bytes, ...]:
    """An entry of a ``ResolveSessionStreamRequest``, in pieces.

    Args:
        request_id: of the request.
        request: the encoded ``ResolveSessionRequest``.
        traceparent: the trace context; empty without one.
    """
    if not traceparent:
        return entry_head(request_id, REQUEST, len(request)), request
    context = traceparent.encode()
    tail = b"\x1a%b%b" % (_varint(len(context)), context)
    head = b"\x08%b%c%b" % (_varint(request_id), REQUEST, _varint(len(request)))
    size = len(head) + len(request) + len(tail)
    return b"\x0a%b%b" % (_varint(size), head), request, tail


def cancelled(request_ids: Iterable[int]) -> bytes:
    """``cancelled_request_ids`` of a ``ResolveSessionStreamRequest``."""
    ids = b"".join(map(_varint, request_ids))
    return b"\x12%b%b" % (_varint(len(ids)), ids)


REQUEST = 0x12
"""Tag of ``Entry.request``: field 2, length-delimited."""

RESPONSE = 0x12
"""Tag of ``Entry.response``: field 2, length-delimited."""

ERROR = 0x1A
"""Tag of ``Entry.error``: field 3, length-delimited."""


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _BYTES[number]
    if number < 0x4000:
        return _BYTES[number & 0x7F | 0x80] + _BYTES[number >> 7]
    return _BYTES[number & 0x7F | 0x80] + _varint(number >> 7)


_BYTES = [bytes((number,)) for number in range(256)]
