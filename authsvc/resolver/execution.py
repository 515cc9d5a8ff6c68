"""Carries out a decision: writes the record, and builds the response or raises the error."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from authsvc.access.usage import Usages
from authsvc.audit import security
from authsvc.audit.sessions import SessionAudit
from authsvc.audit.unanswered import Unanswered, unanswered
from authsvc.credentials import CredentialBroker
from authsvc.domain.decision import Change, Decision
from authsvc.domain.errors import AuthError
from authsvc.domain.events import EventType, SessionEvent
from authsvc.domain.read_only import read_only
from authsvc.domain.record import Record
from authsvc.domain.resolution import Credentials, Outcome, Principal, Resolution, Secret
from authsvc.domain.tokens import PresentedToken, VerifiedToken
from authsvc.resolver import log_lines
from authsvc.resolver.issuing import Issuing
from authsvc.resolver.request import Request
from authsvc.stores import SessionStore


class LostUpdateError(Exception):
    """Another request changed the same record first: the decision has to be made again."""


class Execution:
    """Carries out decisions.

    Args:
        store: keeps the records.
        broker: issues downstream credentials; None where none are needed.
        usages: how many audit events each caller may cause.
        sessions: audits what becomes of sessions.
    """

    def __init__(
        self,
        store: SessionStore,
        broker: CredentialBroker | None,
        usages: Usages,
        sessions: SessionAudit,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._broker = broker
        self._usages = usages

    async def carry_out(
        self, request: Request, decision: Decision, presented: PresentedToken, now: float
    ) -> Resolution:
        """Write what a decision changes, then build the response.

        Args:
            request: the request.
            decision: what was decided.
            presented: the verdict on its token.
            now: when, in seconds since the epoch.

        Raises:
            LostUpdateError: nothing was written.
            AuthError: the decision's error, the store's or the broker's.
        """
        consistency_token = await self._write(decision, request)
        if decision.error is not None:
            await self._audit(request, decision, presented, now)
            raise decision.error
        if decision.record is None:
            raise AssertionError("a decision that serves has a record")
        log_lines.served(decision, request.session_id)
        issuing = self._issuing(request, decision.principal, now)
        named: Mapping[str, Credentials | AuthError] = {}
        credentials = None
        if issuing is not None and request.selection is None:
            credentials = await issuing.issue(request.wanted)
        elif issuing is not None and request.selection:
            named = await issuing.issue_all(request.selection)
        return Resolution(
            decision.record.seen_by(decision.principal),
            decision.outcome,
            decision.principal,
            credentials,
            consistency_token,
            read_only(named),
        )

    async def _write(self, decision: Decision, request: Request) -> str:
        """The consistency token of the write; empty where the decision needs none."""
        record, change = decision.record, decision.change
        if record is None or change is Change.NONE:
            return ""
        if change is Change.REMOVE:
            # Whether it is removed now or by a sweep: it has ended, and the answer is that.
            with suppress(AuthError):
                await self._store.remove(record)
            return ""
        if change is Change.TOUCH:
            await self._store.touch(record)
            return ""
        is_new = decision.outcome is Outcome.CREATED
        if not is_new:
            log_lines.new_token(request.session_id)
        event = EventType.CREATED if is_new else EventType.REAUTHENTICATED
        try:
            written = await self._store.put(record, event)
        except BaseException as error:
            if (lost := unanswered(error)) is not None:
                self._audit_write(request, decision, record, lost)
            raise
        if written is None:
            raise LostUpdateError
        if is_new and decision.ended is not None:
            self._sessions.ended(request.session_id, decision.ended)
        elif not is_new:
            log_lines.updated(request.session_id)
        self._audit_write(request, decision, record)
        return written

    def _audit_write(
        self, request: Request, decision: Decision, record: Record, lost: Unanswered | None = None
    ) -> None:
        if decision.outcome is Outcome.CREATED:
            self._sessions.created(record, **request.origin, lost=lost)
        else:
            is_first = decision.authenticates_first
            self._sessions.reauthenticated(record, **request.origin, is_first=is_first, lost=lost)

    async def _audit(
        self, request: Request, decision: Decision, presented: PresentedToken, now: float
    ) -> None:
        """Report a valid token that was rejected. Others have been reported when verified."""
        if decision.error is None or not isinstance(presented, VerifiedToken):
            return
        if not self._usages.of(request.caller).may_audit():
            return
        security.token_rejected(decision.error, token=presented, **request.audit_fields)
        if decision.is_subject_mismatch:
            await self._store.append(SessionEvent(EventType.SUBJECT_MISMATCH, now, decision.record))

    def _issuing(self, request: Request, principal: Principal | None, now: float) -> Issuing | None:
        """What issues for a request; None where nothing does."""
        if principal is None or request.token is None or self._broker is None:
            return None
        token = Secret(request.token.text)
        return Issuing(self._broker, principal, token, request.resource, now)
