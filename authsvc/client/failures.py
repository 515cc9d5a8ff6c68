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
from authsvc.domain.errors import AuthError, Reason, Status
from authsvc.wire import errors as error_wire

AnswerT = TypeVar("AnswerT")

_NEVER_SENT = "failed to connect to all addresses"
"""gRPC's words for a call that found no connection. Should they change, what is not idempotent is
not repeated any more: no harm is done."""

_CODES = frozenset(code_pb2.Code.values())

_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # A server that stops says so of calls that it had not looked at.
        grpc.StatusCode.CANCELLED,
    }
)

_REPEATABLE = frozenset({Status.UNAVAILABLE, Status.ABORTED})
"""Statuses of errors that another attempt may not meet."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        error: what the call raises if this was its last attempt.
        may_repeat: whether an idempotent request may be sent again.
        safe_to_retry: whether any request may: this one has changed nothing.
        timed_out: the replica has not answered in time.
        unimplemented: the replica does not know such an RPC.
    """

    error: AuthError
    may_repeat: bool = False
    safe_to_retry: bool = False
    timed_out: bool = False
    unimplemented: bool = False


class AttemptError(Exception):
    """An attempt has failed; ``failure`` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


TIMED_OUT = Failure(
    AuthError(Reason.SERVICE_UNAVAILABLE, "no answer in time"),
    may_repeat=True,
    timed_out=True,
)

CLOSED = Failure(
    AuthError(Reason.SERVICE_UNAVAILABLE, "the connection was closed by this client"),
    may_repeat=True,
)
"""A channel that is closed cancels the calls on it."""


def is_caller_cancelled() -> bool:
    """Whether a ``CancelledError`` is of the current task, and not of its call alone."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def answered(rpc: Awaitable[AnswerT]) -> AnswerT:
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
    """gRPC's account of why a call found no connection; empty for a call that may have been sent.

    Other details are a peer's and may hold anything. These were made here.
    """
    details = error.details() or ""
    return printable(details) if details.startswith(_NEVER_SENT) else ""


def failure_of(error: aio.AioRpcError) -> Failure:
    """authsvc's own error where it sent one; anything else is not being able to tell."""
    sent = _sent(error)
    if sent is not None:
        return _told(sent)
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Failure(AuthError(Reason.OVERLOADED, code.name))
    cause = why_never_sent(error)
    return Failure(
        AuthError(Reason.SERVICE_UNAVAILABLE, f"{code.name}: {cause}" if cause else code.name),
        may_repeat=code in _BROKEN,
        safe_to_retry=bool(cause),
        timed_out=code is grpc.StatusCode.DEADLINE_EXCEEDED,
        unimplemented=code is grpc.StatusCode.UNIMPLEMENTED,
    )


def failure_of_status(status: status_pb2.Status) -> Failure:
    """The same for the status of one entry of a stream."""
    sent = error_wire.error_of(status)
    if sent is not None:
        return _told(sent)
    name = code_pb2.Code.Name(status.code) if status.code in _CODES else "UNKNOWN"
    return Failure(AuthError(Reason.SERVICE_UNAVAILABLE, name))


def located(error: AuthError, target: str) -> AuthError:
    """``error`` with the replica that it is of, where that helps to find the cause."""
    if error.reason.status is not Status.UNAVAILABLE:
        return error
    detail = f"authsvc at {target}: {error.detail or error.reason.name}"
    return AuthError(error.reason, detail, retry_after_seconds=error.retry_after_seconds)


def _told(error: AuthError) -> Failure:
    """What authsvc itself says."""
    return Failure(
        error,
        may_repeat=error.reason.status in _REPEATABLE,
        # A token is judged before anything is stored.
        safe_to_retry=error.reason is Reason.KEYS_UNAVAILABLE,
    )


def _sent(error: aio.AioRpcError) -> AuthError | None:
    details = error.trailing_metadata().get(error_wire.STATUS_DETAILS_KEY)
    if not isinstance(details, bytes):
        return None
    try:
        return error_wire.error_of(status_pb2.Status.FromString(details))
    except DecodeError:
        return None
