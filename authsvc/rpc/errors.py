"""How a call that fails ends: one status for every error, and one way to set it.

Unary calls, streams, watches and the entries of a ``ResolveSessionStream`` all take the status from
here. Nothing else of an error leaves the process.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

import grpc
from google.rpc import code_pb2, status_pb2

from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError, GrpcStatus, Reason, of_setting
from authsvc.domain.resolution import Principal
from authsvc.rpc.metadata import Context
from authsvc.wire import errors as error_wire

log = logging.getLogger(__name__)

ServicerT = TypeVar("ServicerT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

CACHED_STATUSES = 4096
"""Encoded statuses that are cached: one for each reason, waiting time and limit."""

LOG_INTERVAL_SECONDS = 1.0
"""A reason of an outage is logged at most so often, however many calls fail for it."""


class CallStatus(NamedTuple):
    """The status of a call that fails.

    Attributes:
        code: the status code.
        message: for the end user of the calling server.
        trailer: trailing metadata.
        encoded: the status as an encoded ``google.rpc.Status``.
    """

    code: grpc.StatusCode
    message: str
    trailer: tuple[tuple[str, bytes], ...]
    encoded: bytes


def end_with_status(error: Exception, context: Context) -> None:
    """Have a call end with the status of an error as soon as its handler returns.

    A handler that returns costs less than one that aborts, which matters in a flood. gRPC discards
    the message that the handler returns then.
    """
    status = _status_of(error)
    context.set_code(status.code)
    context.set_details(status.message)
    context.set_trailing_metadata(status.trailer)


def ends_with_status(
    handler: Callable[[ServicerT, RequestT, Context], Awaitable[ResponseT]],
) -> Callable[[ServicerT, RequestT, Context], Coroutine[Any, Any, ResponseT]]:
    """Decorate a handler, unary or streaming: whatever it raises becomes the status of the call."""

    @functools.wraps(handler)
    async def handle(servicer: ServicerT, request: RequestT, context: Context) -> ResponseT:
        try:
            return await handler(servicer, request, context)
        except Exception as error:  # noqa: BLE001 - an unexpected error denies access, too
            end_with_status(error, context)
            return cast("ResponseT", None)

    return handle


def encoded_status_of(error: Exception) -> bytes:
    """The status of an entry of a stream that fails, an encoded ``google.rpc.Status``."""
    return _status_of(error).encoded


def _status_of(error: Exception) -> CallStatus:
    """The status that a caller sees. What it does not see is logged."""
    if isinstance(error, AuthError):
        _log_outage(error)
        wait = error.retry_after_seconds
        millis = None if wait is None else _rounded_up(wait)
        who = error_wire.who_of(error.principal)
        return _encoded(error.reason, millis, error.limit, who, error.of_write)
    log_unexpected(log, "a request failed unexpectedly", error)
    return _INTERNAL


def _rounded_up(seconds: float) -> int:
    """Milliseconds to wait, in few different values: the longer, the coarser."""
    step = 1 if seconds < 0.1 else 5 if seconds < 1.0 else 100
    return step * math.ceil(1000.0 * seconds / step)


@lru_cache(maxsize=CACHED_STATUSES)
def _encoded(
    reason: Reason,
    retry_after_millis: int | None,
    limit: str,
    who: Principal | None,
    of_write: bool,
) -> CallStatus:
    """The status of a reason. A flood is rejected with few different ones, each encoded once."""
    wait = None if retry_after_millis is None else retry_after_millis / 1000.0
    error = AuthError(
        reason, retry_after_seconds=wait, limit=limit, principal=who, of_write=of_write
    )
    status = error_wire.rpc_status_of(error)
    encoded = status.SerializeToString()
    trailer = ((error_wire.STATUS_DETAILS_KEY, encoded),)
    return CallStatus(_CODES[status.code], status.message, trailer, encoded)


_INTERNAL = CallStatus(
    grpc.StatusCode.INTERNAL,
    "internal error",
    (),
    status_pb2.Status(code=code_pb2.INTERNAL, message="internal error").SerializeToString(),
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}

_LOGGED_STATUSES = frozenset({GrpcStatus.UNAVAILABLE, GrpcStatus.ABORTED})
"""Statuses whose cause the operator needs, which the caller does not see."""

_LOGGED_ELSEWHERE = frozenset({Reason.CREDENTIALS_UNAVAILABLE})
"""Reasons whose cause is in the log by then, with the subject and the name of the credentials."""

_logged: dict[Reason, float] = {}


def _log_outage(error: AuthError) -> None:
    """Log why a request could not be served: the caller sees the reason alone."""
    if error.reason.status not in _LOGGED_STATUSES or error.reason in _LOGGED_ELSEWHERE:
        return
    now = time.monotonic()
    if now - _logged.get(error.reason, -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
        _logged[error.reason] = now
        detail = error.detail or error.reason.message
        log.warning("%s: %s%s", error.reason.name, detail, of_setting(error.setting))
