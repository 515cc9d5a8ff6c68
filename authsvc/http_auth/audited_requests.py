"""A request whose calls are audited: what is known of it so far, and the events that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from authsvc.audit.calls import CallEvent, CallOutcome
from authsvc.domain.resolution import Principal, Resolution, shown
from authsvc.http_auth import messages
from authsvc.http_auth.named_calls import DeclaredArguments, NamedCall, named_calls
from authsvc.http_auth.refusals import Refusal

WITHOUT_MESSAGE = frozenset({"GET", "DELETE"})
"""HTTP methods that are about a session as a whole: they are calls by themselves."""


CANCELLED = "CANCELLED"
"""The reason of calls that were given up: by a server that stopped, or a gateway."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended.

    Attributes:
        outcome: the outcome.
        reason: why; empty where it succeeded.
    """

    outcome: CallOutcome
    reason: str = ""


SUCCEEDED = Ending(CallOutcome.SUCCEEDED)


class AuditedRequest:
    """One request.

    Args:
        http_method: the method of HTTP.
        resource: canonical URI of the MCP server.
        session_id: the session that it names; empty for none.
        caller: the gateway that asks; empty at a gate.
        client_address: of the client; empty where it is not known.
        trace_id: of its trace; likewise.

    Attributes:
        calls: what it calls; None while that is not known.
        resource: see above.
        trace_id: see above.
    """

    __slots__ = (
        *("_caller", "_client_address", "_http_method", "_principal", "_session"),
        *("calls", "resource", "trace_id"),
    )

    def __init__(
        self,
        http_method: str,
        *,
        resource: str,
        session_id: str = "",
        caller: str = "",
        client_address: str = "",
        trace_id: str = "",
    ) -> None:
        self._http_method = http_method
        self.resource = resource
        self._caller = caller
        self._client_address = client_address
        self._principal: Principal | None = None
        self._session = ""
        self.name_session(session_id)
        self.trace_id = trace_id
        is_call = http_method in WITHOUT_MESSAGE
        self.calls = [NamedCall(http_method)] if is_call else None

    def read(self, message: messages.Message, declared: DeclaredArguments) -> None:
        """Take the calls of its message."""
        self.calls = named_calls(message, declared)

    def name_session(self, session_id: str) -> None:
        """Take the session that it is in, or that it has opened; empty for none."""
        if session_id:
            self._session = shown(session_id)

    def resolved(self, resolution: Resolution) -> None:
        """Take who makes it."""
        self._principal = resolution.principal
        if resolution.session is not None:
            self.name_session(resolution.session.id)

    def denied(self, refusal: Refusal) -> Ending:
        """How its calls end by a refusal."""
        if refusal.resolution is not None:
            self.resolved(refusal.resolution)
        # Nothing is known of its message: it was not read, or is none.
        if self.calls is None:
            self.calls = [NamedCall(self._http_method)]
        return Ending(CallOutcome.DENIED, refusal.cause)

    def events(
        self, ending_of: Callable[[NamedCall], Ending], *, status: int, duration_seconds: float
    ) -> Iterator[CallEvent]:
        """An event for each of its calls.

        Args:
            ending_of: how a call ended.
            status: the HTTP status of the response; 0 for none.
            duration_seconds: of the request.
        """
        who = self._principal
        for call in self.calls or ():
            ending = ending_of(call)
            yield CallEvent(
                call.method,
                ending.outcome,
                tool=call.tool,
                reason=ending.reason,
                status=status,
                duration_seconds=duration_seconds,
                caller=self._caller,
                session=self._session,
                resource=self.resource,
                issuer=who.issuer if who else "",
                subject=who.subject if who else "",
                client_id=who.client_id if who else "",
                actors=tuple(who.actor.chain()) if who and who.actor else (),
                trace_id=self.trace_id,
                client_address=self._client_address,
                arguments=call.arguments,
            )
