"""The edge: who may pass, how often, what is written down of it, and what leaves the process."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, TypeVar

import grpc
from google.rpc import code_pb2, status_pb2
from grpc.aio import ServicerContext

from authsvc.access import audit
from authsvc.access.callers import Caller, Callers
from authsvc.access.certificate_names import certificate_names
from authsvc.access.limits import Usage, Usages
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError, Reason, Status
from authsvc.wire import auth as wire

log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT")
Context = ServicerContext[Any, Any]

IDENTIFY_SECONDS = 0.5
"""A caller that stays is identified again so often."""

ENDS_KEPT = 4096
"""Encoded statuses that are cached: one for each reason and time to wait, in milliseconds."""

STRANGER = ""
"""The name of whoever has not proven who it is."""


class Edge:
    """Who passes: the caller of each RPC is identified, rationed, and written down if refused.

    Args:
        callers: who is registered.
        usages: what each may ask for.
    """

    def __init__(self, callers: Callers, usages: Usages) -> None:
        self._callers = callers
        self._usages = usages

    def identify(self, context: Context) -> Caller:
        """Who is calling; written down if that is nobody.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        try:
            return identified(self._callers, context)
        except AuthError as error:
            self.note_refusal(error, STRANGER, context)
            raise

    def admitted(
        self, context: Context, authorize: Callable[[Caller], None], *, resource: str = ""
    ) -> Admission:
        """The caller, while it has a call in flight: to be used with ``with``.

        Args:
            context: of the call.
            authorize: refuses a caller that may not make this call.
            resource: what the call is about.

        Raises:
            AuthError: CALLER_NOT_ALLOWED, OVERLOADED, or what ``authorize`` raises.
        """
        caller = self.identify(context)
        return Admission(self, context, caller, self._usages.of(caller.name), authorize, resource)

    @contextmanager
    def admitted_stream(
        self, context: Context, authorize: Callable[[Caller], None]
    ) -> Iterator[Stay]:
        """As ``admitted``, for a call that lasts: it counts as a stream, too.

        Args:
            context: of the call.
            authorize: refuses a caller that may not make this call.

        Raises:
            AuthError: as ``admitted``.
        """
        caller = self.identify(context)
        stay = Stay(self, context, caller, self._usages.of(caller.name))
        try:
            try:
                authorize(caller)
            except AuthError as error:
                self.note_refusal(error, caller.name, context)
                raise
            # Who is not known any more later on is recorded where that is noticed.
            yield stay
        finally:
            stay.end()

    def admitted_for(
        self, resource: str, context: Context, caller: Caller | None = None
    ) -> Admission:
        """As ``admitted``, for a call about a resource that the caller has to be registered for.

        Args:
            resource: which one.
            context: of the call.
            caller: who calls, where that is known already.
        """
        caller = caller or self.identify(context)
        usage = self._usages.of(caller.name)
        return Admission(self, context, caller, usage, partial(_authorize, resource), resource)

    def counted(self, caller: Caller) -> None:
        """Count a call that is answered at once, and so is never in flight.

        Raises:
            AuthError: OVERLOADED.
        """
        self._usages.of(caller.name).count_call()

    @asynccontextmanager
    async def staying(self, context: Context) -> AsyncIterator[Stay]:
        """Around a call that lasts, of any known caller: abort it where it may not begin, or no
        longer go on."""
        try:
            with self.admitted_stream(context, anybody_known) as stay:
                yield stay
        except AuthError as error:
            await _abort(error, context)

    def note_refusal(
        self, error: AuthError, caller: str, context: Context, resource: str = ""
    ) -> None:
        """Audit that a caller was denied; other errors are no security event."""
        is_event = error.reason is Reason.CALLER_NOT_ALLOWED
        if is_event and self._usages.of(caller).may_record():
            audit.caller_denied(
                error, caller=caller, peer=str(context.peer()), resource=resource[:200]
            )


class Stay:
    """A call that lasts, of a caller that is known.

    It counts as one of the caller's streams until it ends, or until the caller is no longer known:
    from then on it takes no place, however long its client takes to read what is under way.

    Attributes:
        caller: who called.
    """

    def __init__(self, edge: Edge, context: Context, caller: Caller, usage: Usage) -> None:
        usage.begin_stream()
        self.caller = caller
        self._edge = edge
        self._context = context
        self._usage: Usage | None = usage

    def end(self) -> None:
        """Count it no more."""
        if self._usage is not None:
            self._usage.end_stream()
            self._usage = None

    def identify(self) -> Caller:
        """Who is calling, by what is known now.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        try:
            return self._edge.identify(self._context)
        except AuthError:
            self.end()
            raise

    async def first_done(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Wait for the first of some tasks of the call, for as long as the caller is known.

        Raises:
            AuthError: CALLER_NOT_ALLOWED, once what the call presented proves nobody any more.
        """
        while True:
            done, _ = await asyncio.wait(
                tasks, timeout=IDENTIFY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            self.identify()

    async def write(self, message: object) -> None:
        """Write to the client, if the caller is known.

        Raises:
            AuthError: CALLER_NOT_ALLOWED. Nothing is being written then: gRPC refuses the end of a
                call beside a write, and the client would wait for ever.
        """
        self.identify()
        writing = asyncio.ensure_future(self._context.write(message))
        try:
            await self.first_done((writing,))
            await writing
        except AuthError:
            await asyncio.wait((writing,))
            raise
        finally:
            writing.cancel()


@dataclass(slots=True)
class Admission:
    """One call of a known caller, from its begin to its end.

    A class, and no generator: each call has one.
    """

    edge: Edge
    context: Context
    caller: Caller
    usage: Usage
    authorize: Callable[[Caller], None]
    resource: str

    def __enter__(self) -> Caller:
        self.usage.begin_call()
        try:
            self.authorize(self.caller)
        except AuthError as error:
            self.end(error)
            raise
        return self.caller

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(exc)

    def end(self, error: BaseException | None = None) -> None:
        """The call is over; ``error`` is what it ended with."""
        self.usage.end_call()
        if isinstance(error, AuthError):
            self.edge.note_refusal(error, self.caller.name, self.context, self.resource)


def identified(callers: Callers, context: Context) -> Caller:
    """Who is calling, by the connection's certificate or the call's service token.

    Raises:
        AuthError: CALLER_NOT_ALLOWED.
    """
    # What proves nobody is not looked at: each costs as much as all else here.
    names = certificate_names(context.auth_context()) if callers.by_certificate else ()
    return callers.identify(names, service_token(context) if callers.by_token else "")


def service_token(context: Context) -> str:
    """The service token that a call presents; empty without one.

    Raises:
        AuthError: CALLER_NOT_ALLOWED: there are two.
    """
    presented = [
        value for key, value in context.invocation_metadata() or () if key == "authorization"
    ]
    if len(presented) > 1:
        raise AuthError(Reason.CALLER_NOT_ALLOWED, "two service tokens")
    scheme, _, token = str(presented[0] if presented else "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _authorize(resource: str, caller: Caller) -> None:
    caller.authorize(resource)


def anybody_known(caller: Caller) -> None:
    """Authorise every caller that is identified at all."""


async def guarded(work: Awaitable[ResponseT], context: Context) -> ResponseT:
    """The edge: every error becomes a status here, and nothing else leaves the process."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - whatever breaks, nobody gets in
        await _abort(error, context)


async def _abort(error: Exception, context: Context) -> NoReturn:
    end = _end_of(error)
    await context.abort(end.code, end.message, trailing_metadata=end.trailer)
    raise AssertionError("abort does not return")


def refuse(error: Exception, context: Context) -> None:
    """Have a call end with the status of what went wrong, as soon as its handler returns.

    For handlers that a flood may reach: one that returns costs less than one that aborts.
    """
    end = _end_of(error)
    context.set_code(end.code)
    context.set_details(end.message)
    context.set_trailing_metadata(end.trailer)


def encoded_status_of(error: Exception) -> bytes:
    """The status that a caller sees of an error, an encoded ``google.rpc.Status``. What it does not
    see is logged."""
    return _end_of(error).status


class _End(NamedTuple):
    """How a call ends that is not answered.

    Attributes:
        code: the status code.
        message: for the end user of the calling server.
        trailer: trailing metadata.
        status: the same as an encoded ``google.rpc.Status``.
    """

    code: grpc.StatusCode
    message: str
    trailer: tuple[tuple[str, bytes], ...]
    status: bytes


def _end_of(error: Exception) -> _End:
    if isinstance(error, AuthError):
        _tell(error)
        wait = error.retry_after_seconds
        return _end_for(error.reason, None if wait is None else _rounded_up(wait))
    # The caller learns nothing of it.
    log_unexpected(log, "a request failed unexpectedly", error)
    return _INTERNAL


def _rounded_up(seconds: float) -> int:
    """Milliseconds to wait, in few different values: the longer, the coarser."""
    step = 1 if seconds < 0.1 else 5 if seconds < 1.0 else 100
    return step * math.ceil(1000.0 * seconds / step)


@lru_cache(maxsize=ENDS_KEPT)
def _end_for(reason: Reason, retry_after_millis: int | None) -> _End:
    """A flood is rejected with few different statuses, each encoded once."""
    wait = None if retry_after_millis is None else retry_after_millis / 1000.0
    status = wire.status_of(AuthError(reason, retry_after_seconds=wait))
    encoded = status.SerializeToString()
    trailer = ((wire.STATUS_DETAILS_KEY, encoded),)
    return _End(_CODES[status.code], status.message, trailer, encoded)


_INTERNAL = _End(
    grpc.StatusCode.INTERNAL,
    "internal error",
    (),
    status_pb2.Status(code=code_pb2.INTERNAL, message="internal error").SerializeToString(),
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}


OUTAGE_INTERVAL_SECONDS = 1.0
"""What is out of reach is written down so often, and not for each call that wanted it."""

_told: dict[Reason, float] = {}


def _tell(error: AuthError) -> None:
    """Tell the operator what the caller is not told: why something is out of reach."""
    if error.reason.status is not Status.UNAVAILABLE:
        return
    now = time.monotonic()
    if now - _told.get(error.reason, -OUTAGE_INTERVAL_SECONDS) >= OUTAGE_INTERVAL_SECONDS:
        _told[error.reason] = now
        log.warning("%s: %s", error.reason.name, error.detail or error.reason.message)
