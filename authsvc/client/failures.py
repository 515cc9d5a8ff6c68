"""Why an attempt failed: the error that it is, and whether it may be made again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2
from grpc import aio

from authsvc.common.printable import printable
from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.wire import errors as error_wire

ResultT = TypeVar("ResultT")

_NEVER_SENT = "failed to connect to all addresses"
"""How gRPC's message for a call that found no connection begins. If it changes, calls that are not
idempotent are no longer retried, which is safe."""

_CAUSES = (
    ("certificate has expired", "a certificate of authsvc has expired"),
    (
        "certificate is not yet valid",
        "a certificate of authsvc is not valid yet: is the clock of this machine right?",
    ),
    (
        "certificate signature failure",
        "ca_file has another authority of the name of the one that signed authsvc's certificate",
    ),
    ("CERTIFICATE_VERIFY_FAILED", "ca_file does not have the authority of authsvc's certificate"),
    ("Hostname Verification Check failed", "authsvc's certificate is for other names"),
    ("WRONG_VERSION_NUMBER", "what listens there does not speak TLS"),
    (
        "Socket closed",
        "closed by what listens there: it requires TLS, or another client certificate",
    ),
)
"""What BoringSSL and gRPC say of a handshake, and what it means; the first that fits."""

_CODES = frozenset(code_pb2.Code.values())

_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # From a server that stops, for calls that it had not read.
        grpc.StatusCode.CANCELLED,
    }
)

_REPEATABLE = frozenset({GrpcStatus.UNAVAILABLE, GrpcStatus.ABORTED})
"""Statuses of errors that another attempt may not meet."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        error: what the call raises if this was its last attempt.
        may_repeat: whether an idempotent request may be sent again.
        safe_to_retry: whether any request may: this one has changed nothing.
        timed_out: whether the replica did not answer in time.
        unimplemented: whether the replica lacks the RPC.
    """

    error: AuthError
    may_repeat: bool = False
    safe_to_retry: bool = False
    timed_out: bool = False
    unimplemented: bool = False


class AttemptError(Exception):
    """An attempt failed; ``failure`` is why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


TIMED_OUT = Failure(
    AuthError(Reason.SERVICE_UNAVAILABLE, "no answer in time"),
    may_repeat=True,
    timed_out=True,
)

UNREADABLE = Failure(AuthError(Reason.SERVICE_UNAVAILABLE, "the answer cannot be read"))

CLOSED = Failure(
    AuthError(Reason.SERVICE_UNAVAILABLE, "the connection was closed by this client"),
    may_repeat=True,
)
"""Of calls that their channel cancelled when it was closed."""


def is_caller_cancelled() -> bool:
    """Whether a ``CancelledError`` is of the current task, and not of its call alone."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def answered(rpc: Awaitable[ResultT]) -> ResultT:
    """What an RPC returns.

    Raises:
        AttemptError: it failed.
    """
    try:
        return await rpc
    except aio.AioRpcError as error:
        raise AttemptError(failure_of(error)) from None
    except asyncio.CancelledError:
        if is_caller_cancelled():
            raise
        raise AttemptError(CLOSED) from None


def why_never_sent(error: aio.AioRpcError) -> str:
    """gRPC's message on why a call found no connection; empty for a call that may have been sent.

    Other messages come from a peer and may hold anything. This one was made on this side.
    """
    details = error.details() or ""
    if not details.startswith(_NEVER_SENT):
        return ""
    cause = next((text for mark, text in _CAUSES if mark in details), "")
    return printable(f"{cause}: {details}" if cause else details)


def failure_of(error: aio.AioRpcError) -> Failure:
    """authsvc's own error where it sent one; SERVICE_UNAVAILABLE or OVERLOADED otherwise."""
    details = error.trailing_metadata().get(error_wire.STATUS_DETAILS_KEY)
    cause = why_never_sent(error)
    return failure_of_code(
        error.code(),
        details if isinstance(details, bytes) else None,
        cause=cause,
        safe_to_retry=bool(cause),
    )


def failure_of_code(
    code: grpc.StatusCode, details: bytes | None, *, cause: str, safe_to_retry: bool
) -> Failure:
    """As ``failure_of``.

    Args:
        code: the status of the call.
        details: the encoded ``google.rpc.Status`` of its trailers; None without one.
        cause: why, where this side found that out; empty otherwise.
        safe_to_retry: whether the server has certainly not begun the call.
    """
    sent = _sent(details)
    if sent is not None:
        return _reported(sent)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Failure(AuthError(Reason.OVERLOADED, code.name))
    return Failure(
        AuthError(Reason.SERVICE_UNAVAILABLE, f"{code.name}: {cause}" if cause else code.name),
        may_repeat=code in _BROKEN,
        safe_to_retry=safe_to_retry,
        timed_out=code is grpc.StatusCode.DEADLINE_EXCEEDED,
        unimplemented=code is grpc.StatusCode.UNIMPLEMENTED,
    )


def failure_of_status(status: status_pb2.Status) -> Failure:
    """As ``failure_of``, for the status of one entry of a stream."""
    sent = error_wire.error_of(status)
    if sent is not None:
        return _reported(sent)
    name = code_pb2.Code.Name(status.code) if status.code in _CODES else "UNKNOWN"
    return Failure(AuthError(Reason.SERVICE_UNAVAILABLE, name))


def located(error: AuthError, target: str) -> AuthError:
    """A copy of ``error``, with the address of the replica in its detail if its status is
    UNAVAILABLE.

    All requests of a stream that ends have its error. To raise one instance for all of them would
    put the frames of each into the tracebacks of the others, and their tokens with them.
    """
    detail = error.detail
    if error.reason.status is GrpcStatus.UNAVAILABLE:
        detail = f"authsvc at {target}: {detail or error.reason.name}"
    return AuthError(
        error.reason,
        detail,
        retry_after_seconds=error.retry_after_seconds,
        limit=error.limit,
        principal=error.principal,
        of_write=error.of_write,
    )


def _reported(error: AuthError) -> Failure:
    """The failure for an error that authsvc sent."""
    return Failure(
        error,
        may_repeat=error.reason.status in _REPEATABLE,
        # The token is verified before anything is stored.
        safe_to_retry=error.reason is Reason.KEYS_UNAVAILABLE,
    )


def _sent(details: bytes | None) -> AuthError | None:
    if details is None:
        return None
    try:
        return error_wire.error_of(status_pb2.Status.FromString(details))
    except DecodeError:
        return None
