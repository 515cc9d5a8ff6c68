"""What became of an attempt that failed: the error it is, and whether it may be made again."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc import aio

from authsvc import wire
from authsvc.errors import AuthError, Reason, Status

_NEVER_SENT = "failed to connect to all addresses"
"""gRPC's words for a call that found no connection. Should they change, what is not idempotent is
not repeated any more: no harm is done."""

_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # A server that stops says so of calls that it had not looked at.
        grpc.StatusCode.CANCELLED,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        error: what the caller is told, if this was the last attempt.
        may_repeat: whether an idempotent request may be sent again.
        left_nothing: whether any request may: it has surely changed nothing.
        timed_out: the replica has not answered in time.
    """

    error: AuthError
    may_repeat: bool = False
    left_nothing: bool = False
    timed_out: bool = False


def failure_of(error: aio.AioRpcError) -> Failure:
    """authsvc's own error where it sent one; anything else is not being able to tell."""
    sent = _sent(error)
    if sent is not None:
        return Failure(
            sent,
            may_repeat=sent.reason.status is Status.UNAVAILABLE,
            # A token is judged before anything is stored.
            left_nothing=sent.reason is Reason.KEYS_UNAVAILABLE,
        )
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Failure(AuthError(Reason.OVERLOADED, code.name))
    return Failure(
        AuthError(Reason.STORE_UNAVAILABLE, f"authsvc: {code.name}"),
        may_repeat=code in _BROKEN,
        left_nothing=(error.details() or "").startswith(_NEVER_SENT),
        timed_out=code is grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def _sent(error: aio.AioRpcError) -> AuthError | None:
    details = error.trailing_metadata().get(wire.STATUS_DETAILS_KEY)
    if not isinstance(details, bytes):
        return None
    try:
        return wire.error_of(status_pb2.Status.FromString(details))
    except DecodeError:
        return None
