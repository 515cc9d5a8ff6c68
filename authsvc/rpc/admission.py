"""Admission: each call's caller is identified, authorised, rate limited, and audited if denied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from authsvc.access.callers import Caller, Callers
from authsvc.access.usage import Limit, Usage, Usages
from authsvc.audit import security
from authsvc.domain.errors import AuthError, Reason
from authsvc.rpc.admitted_stream import AdmittedStream
from authsvc.rpc.metadata import Context, identified

UNAUTHENTICATED = ""
"""The name of an unauthenticated caller in audit events."""


def any_registered(caller: Caller) -> None:
    """Authorise every caller that is identified."""


class Admission:
    """Admits calls.

    Args:
        callers: who is registered.
        usages: what each uses of its limits.
    """

    def __init__(self, callers: Callers, usages: Usages) -> None:
        self._callers = callers
        self._usages = usages

    def identify(self, context: Context) -> Caller:
        """The caller of a call; audited as denied if nothing identifies it.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        try:
            return identified(self._callers, context)
        except AuthError as error:
            self.audit_denial(error, UNAUTHENTICATED, context)
            raise

    def call(self, context: Context, authorize: Callable[[Caller], None]) -> AdmittedCall:
        """A context manager around a call: it gives the caller, and has the call in flight.

        Args:
            context: of the call.
            authorize: raises for a caller that may not make this call.

        Raises:
            AuthError: CALLER_NOT_ALLOWED; on entering OVERLOADED, or what ``authorize`` raises.
        """
        caller = self.identify(context)
        return AdmittedCall(self, context, caller, self._usages.of(caller.name), authorize)

    def call_for(
        self, resource: str, context: Context, caller: Caller | None = None
    ) -> AdmittedCall:
        """As ``call``, for a resource that the caller has to be registered for.

        Args:
            resource: which one.
            context: of the call.
            caller: of the call, where it has been identified already.
        """
        caller = caller or self.identify(context)
        usage = self._usages.of(caller.name)
        return AdmittedCall(self, context, caller, usage, partial(_authorize, resource), resource)

    @contextmanager
    def stream(
        self, context: Context, authorize: Callable[[Caller], None] = any_registered
    ) -> Iterator[AdmittedStream]:
        """As ``call``, for a call that lasts: it counts as one of the caller's streams, too.

        ``AdmittedStream.identify`` audits a caller that is no longer registered.
        """
        caller = self.identify(context)
        stream = AdmittedStream(
            context, caller, self._usages.of(caller.name), partial(self.identify, context)
        )
        try:
            try:
                authorize(caller)
            except AuthError as error:
                self.audit_denial(error, caller.name, context)
                raise
            yield stream
        finally:
            stream.end()

    def count(self, caller: Caller) -> None:
        """Count a call that is answered at once, and so is never in flight.

        Raises:
            AuthError: OVERLOADED.
        """
        self._usages.of(caller.name).count_call()

    def reached(
        self, limit: Limit, wait_seconds: float, caller: str = UNAUTHENTICATED
    ) -> AuthError:
        """The rejection of a call beyond a limit, which is audited at a bounded rate.

        Args:
            limit: the limit.
            wait_seconds: when another call may be admitted.
            caller: of the call, where it has been identified.
        """
        self._usages.of(caller).report(limit)
        return limit.error(wait_seconds)

    def audit_denial(
        self, error: AuthError, caller: str, context: Context, resource: str = ""
    ) -> None:
        """Audit that a caller was denied; other errors are no security event."""
        is_event = error.reason is Reason.CALLER_NOT_ALLOWED
        if is_event and self._usages.of(caller).may_audit():
            security.caller_denied(
                error, caller=caller, peer=str(context.peer()), resource=resource[:200]
            )


@dataclass(slots=True)
class AdmittedCall:
    """One call of an identified caller: a context manager.

    A class, and no generator, which would cost more: each call has one.
    """

    admission: Admission
    context: Context
    caller: Caller
    usage: Usage
    authorize: Callable[[Caller], None]
    resource: str = ""

    def __enter__(self) -> Caller:
        self.usage.begin_call()
        try:
            self.authorize(self.caller)
        except AuthError as error:
            self._end(error)
            raise
        return self.caller

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(exc)

    def _end(self, error: BaseException | None) -> None:
        self.usage.end_call()
        if isinstance(error, AuthError):
            self.admission.audit_denial(error, self.caller.name, self.context, self.resource)


def _authorize(resource: str, caller: Caller) -> None:
    caller.authorize(resource)
