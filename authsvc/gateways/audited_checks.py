"""The audit of checks: what each request called, as whom, and whether it was admitted.

A check does not see the response: SUCCEEDED says that the request was admitted, and the duration is
that of the check.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from authsvc.access.callers import Caller
from authsvc.audit.calls import CallAudit, CallOutcome
from authsvc.common.trace_context import trace_id_of
from authsvc.domain.resolution import Resolution
from authsvc.gateways.clients import client_address, set_client
from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.gateways.routes import Route
from authsvc.http_auth import messages
from authsvc.http_auth.audited_requests import (
    CANCELLED,
    SUCCEEDED,
    WITHOUT_MESSAGE,
    AuditedRequest,
    Ending,
)
from authsvc.http_auth.headers import SESSION_ID
from authsvc.http_auth.named_calls import DeclaredArguments, NamedCall
from authsvc.http_auth.refusals import Refusal


class CheckAudit:
    """Audits checks.

    Args:
        audit: gets the events.
        client_address_header: that gateways report a client's address in; empty for that of the
            connection.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        audit: CallAudit,
        *,
        client_address_header: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._audit = audit
        self._client_address_header = client_address_header
        self._clock = clock

    def begin(self, check: EncodedCheck, caller: Caller, traceparent: str) -> AuditedCheck | None:
        """A check that begins; None where it is not audited.

        Args:
            check: the request.
            caller: the gateway.
            traceparent: of the check; empty without one.
        """
        if check.http.method not in {"POST", *WITHOUT_MESSAGE} or not self._audit.wants():
            return None
        set_client(check, self._client_address_header)
        traceparent = traceparent or check.traceparent()
        return AuditedCheck(self._audit, check, caller.name, traceparent, self._clock)


class AuditedCheck:
    """One check.

    Args:
        audit: gets the events.
        check: the request.
        caller: name of the gateway.
        traceparent: the trace context; empty without one.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        audit: CallAudit,
        check: EncodedCheck,
        caller: str,
        traceparent: str,
        clock: Callable[[], float],
    ) -> None:
        self._audit = audit
        self._traceparent = traceparent
        self._clock = clock
        self._began = clock()
        self._has_route = False
        sessions = check.values(SESSION_ID)
        self._request = AuditedRequest(
            check.http.method,
            resource=check.resource,
            session_id=sessions[0] if sessions else "",
            caller=caller,
            client_address=client_address(),
        )
        self._declared: DeclaredArguments = {}
        self._ending: Ending | None = None
        self._status = 0

    def of_route(self, route: Route) -> None:
        """Take the route. Requests for none are not to an MCP server, and are not audited."""
        self._has_route = True
        self._request.resource = route.resource
        self._declared = route.audited_arguments

    def traced(self, traceparent: str) -> None:
        """Take the context of the check's own span; empty without one."""
        self._traceparent = traceparent or self._traceparent

    def read(self, message: messages.Message) -> None:
        """Take the calls of the message."""
        self._request.read(message, self._declared)

    def named(self, method: str, params: object) -> None:
        """Take the call that headers name."""
        self._request.calls = [NamedCall.of(method, params, self._declared)]

    def allowed(self, resolution: Resolution, status: int = 0) -> None:
        """The request is admitted.

        Args:
            resolution: of it.
            status: of HTTP, where it is answered in the upstream's place; 0 where the upstream
                answers.
        """
        self._ending, self._status = SUCCEEDED, status
        self._request.resolved(resolution)

    def denied(self, refusal: Refusal) -> None:
        """The request is refused."""
        self._ending, self._status = self._request.denied(refusal), refusal.status.value

    def cancelled(self) -> None:
        """The gateway has given up the check."""
        self._ending = Ending(CallOutcome.ENDED, CANCELLED)

    def record(self) -> None:
        """Audit the calls, where it was decided on them."""
        if not self._has_route or (ending := self._ending) is None:
            return
        self._request.trace_id = trace_id_of(self._traceparent)
        for event in self._request.events(
            lambda _: ending,
            status=self._status,
            duration_seconds=self._clock() - self._began,
        ):
            self._audit.record(event)
