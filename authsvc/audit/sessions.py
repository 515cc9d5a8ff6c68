"""Audit of sessions: whose they are, from their creation to their end.

One happening is one event, whatever the number of replicas: the replica audits whose write the
store has accepted, or may have accepted, where its answer was lost. ``SESSION_REVOKED`` is always
audited; the others where the configuration has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from authsvc.audit import security
from authsvc.audit.security import SecurityEvent, SecurityEventType
from authsvc.audit.unanswered import Unanswered
from authsvc.common.rarely import Rarely
from authsvc.common.times import utc
from authsvc.common.token_bucket import TokenBucket
from authsvc.domain.errors import Reason
from authsvc.domain.events import revoked_since
from authsvc.domain.record import Limits, Record
from authsvc.domain.resolution import shown

ANONYMOUS_PER_SECOND = 10.0
ANONYMOUS_AT_ONCE = 200.0
"""Events of sessions without a subject that are audited; others are counted and reported. Anybody
can cause them: else anybody could fill the disk. Sessions with a subject are always audited."""

REPORT_SECONDS = 60.0
"""Events that were not audited are reported at most so often."""


class SessionAudit:
    """Audits the sessions of one process.

    Args:
        limits: how long sessions last: says why one has ended.
        enabled: whether creations, re-authentications and ends are audited.
        clock: seconds since the epoch.
    """

    def __init__(
        self, limits: Limits, *, enabled: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self._limits = limits
        self._enabled = enabled
        self._clock = clock
        self._anonymous = TokenBucket(ANONYMOUS_PER_SECOND, ANONYMOUS_AT_ONCE, clock())
        self._dropped = 0
        self._reports = Rarely(REPORT_SECONDS, clock)

    def created(
        self,
        record: Record,
        *,
        resource: str,
        caller: str,
        client_address: str = "",
        lost: Unanswered | None = None,
    ) -> None:
        """Audit that a session was created.

        Args:
            record: as it was written.
            resource: of the request.
            caller: the name of the MCP server that asked.
            client_address: of its client; empty where it is not known.
            lost: why it is not known whether it was written; None where it was.
        """
        event_type = SecurityEventType.SESSION_CREATED
        self._of_request(event_type, record, resource, caller, client_address, lost=lost)

    def reauthenticated(
        self,
        record: Record,
        *,
        resource: str,
        caller: str,
        client_address: str = "",
        is_first: bool = False,
        lost: Unanswered | None = None,
    ) -> None:
        """Audit that a session has another current token; arguments as of ``created``.

        Args:
            record: as it was written.
            resource: of the request.
            caller: the name of the MCP server that asked.
            client_address: of its client; empty where it is not known.
            is_first: whether the session had no subject before.
            lost: why it is not known whether it was written; None where it was.
        """
        detail = "authenticated for the first time" if is_first else ""
        event_type = SecurityEventType.SESSION_REAUTHENTICATED
        self._of_request(event_type, record, resource, caller, client_address, detail, lost)

    def revoked(self, record: Record, *, caller: str, lost: Unanswered | None = None) -> None:
        """Audit that a session was revoked, and whose it was.

        Args:
            record: its tombstone.
            caller: the MCP server or operator that revoked it.
            lost: why it is not known whether it was written; None where it was.
        """
        if self._may_audit(record):
            event_type = SecurityEventType.SESSION_REVOKED
            security.record(_of_session(event_type, record, caller=caller, lost=lost))

    def ended(self, session_id: str, record: Record | None) -> None:
        """Audit that this process has removed a session from the store, and why; an ``OnRemoved``.

        The end of a revoked one is its revocation.

        Args:
            session_id: its id.
            record: as it was last; None where that is not known.
        """
        if not self._enabled or (record is not None and revoked_since(record) is not None):
            return
        if not self._may_audit(record):
            return
        event_type = SecurityEventType.SESSION_ENDED
        if record is None:
            detail = "its record was gone, or is of a later version"
            security.record(SecurityEvent(event_type, session=shown(session_id), detail=detail))
            return
        security.record(_of_session(event_type, record, detail=self._why_ended(record)))

    def report_dropped(self) -> None:
        """Report the events that were not audited, where that is due; called periodically, too."""
        if self._dropped and self._reports.may_pass("dropped"):
            self._report()

    def close(self) -> None:
        """Report those that are not reported yet."""
        if self._dropped:
            self._report()

    def _report(self) -> None:
        dropped, self._dropped = self._dropped, 0
        security.record(
            SecurityEvent(
                SecurityEventType.LIMIT_REACHED,
                reason=Reason.OVERLOADED.name,
                detail=f"too many sessions without a token to audit all of them; {dropped} "
                "events were not audited",
            )
        )

    def _of_request(
        self,
        event_type: SecurityEventType,
        record: Record,
        resource: str,
        caller: str,
        client_address: str,
        detail: str = "",
        lost: Unanswered | None = None,
    ) -> None:
        if self._enabled and self._may_audit(record):
            security.record(
                _event(event_type, record, resource, caller, detail, client_address, lost)
            )

    def _may_audit(self, record: Record | None) -> bool:
        """Whether an event of a session is audited; else it is counted."""
        if record is not None and record.authenticated:
            return True
        if self._anonymous.take(self._clock()) == 0.0:
            return True
        self._dropped += 1
        self.report_dropped()
        return False

    def _why_ended(self, record: Record) -> str:
        if self._clock() < record.expire_time:
            why = "removed: too many sessions without a token"
        elif record.expire_time >= record.create_time + self._limits.absolute_seconds:
            why = "reached its absolute limit"
        else:
            why = "idle"
        return f"{why}; created {_time(record.create_time)}, used {_time(record.last_seen_time)}"


def _of_session(
    event_type: SecurityEventType,
    record: Record,
    *,
    caller: str = "",
    detail: str = "",
    lost: Unanswered | None = None,
) -> SecurityEvent:
    """An event of a whole session: with the resource where it was authenticated first, and the
    current token there."""
    resource = next(iter(record.grants), "")
    if len(record.grants) > 1:
        others = f"{len(record.grants) - 1} more resources"
        detail = f"{detail}; {others}" if detail else others
    return _event(event_type, record, resource, caller, detail, lost=lost)


def _event(
    event_type: SecurityEventType,
    record: Record,
    resource: str,
    caller: str,
    detail: str,
    client_address: str = "",
    lost: Unanswered | None = None,
) -> SecurityEvent:
    """An event of a session, with its current token at a resource."""
    grant = record.grants.get(resource)
    return SecurityEvent(
        event_type,
        reason=lost.reason if lost else "",
        caller=caller,
        session=shown(record.id),
        resource=resource,
        issuer=record.issuer,
        subject=record.subject,
        client_id=grant.client_id if grant else "",
        token_id=grant.token_id if grant else "",
        detail=lost.with_detail(detail) if lost else detail,
        client_address=client_address,
    )


def _time(seconds: float) -> str:
    return utc(seconds).isoformat(timespec="seconds")
