"""The decision table (docs/sessions.md): pure, no I/O, no clock."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from types import MappingProxyType

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import (
    PRINCIPAL_SESSION_PREFIX,
    Limits,
    Record,
    principal_session_id,
)
from authsvc.domain.resolution import Outcome, Principal
from authsvc.domain.tokens import PresentedToken, RejectedToken, VerifiedToken

TOUCH_FRACTION = 0.01
"""``last_seen_time`` is written once this fraction of the idle limit has passed. So idle limits are
accurate to one percent, and the hot path rarely writes."""


class Row(IntEnum):
    """The rows of the decision table (docs/sessions.md). Row 16 needs no decision."""

    CREATED_WITHOUT_TOKEN = 1
    CREATED_WITH_TOKEN = 2
    NOT_CREATED = 3
    UNKNOWN_SESSION = 4
    STILL_UNAUTHENTICATED = 5
    UPGRADED = 6
    TOKEN_REJECTED = 7
    SAME_TOKEN = 8
    SAME_TOKEN_EXPIRED = 9
    NEWER_TOKEN = 10
    OLDER_TOKEN = 11
    SUBJECT_MISMATCH = 12
    WITHOUT_IDENTITY = 13
    REVOKED = 14
    EXPIRED = 15
    PRINCIPAL_SESSION = 17


class Change(Enum):
    """What a decision does to the store."""

    NONE = auto()
    WRITE = auto()
    """The decision's record is new, to be stored under compare-and-set."""
    TOUCH = auto()
    """The decision's record differs in ``last_seen_time`` and ``expire_time`` alone."""
    REMOVE = auto()
    """The decision's record is past its limits."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to respond and what to write, for one row of the table.

    Attributes:
        row: which row it is.
        outcome: set when the request is served.
        error: set when it is rejected.
        record: the record that the decision is about, as it is after the request.
        change: what becomes of that record in the store.
        principal: the identity of the request; always from its own token.
        ended: the record of a principal session that has expired, and begins anew.
    """

    row: Row
    outcome: Outcome | None = None
    error: AuthError | None = None
    record: Record | None = None
    change: Change = Change.NONE
    principal: Principal | None = None
    ended: Record | None = None

    @property
    def serves_unchanged(self) -> bool:
        """Whether it serves the request and writes nothing."""
        return self.outcome is not None and self.change is Change.NONE

    @property
    def rejects_token(self) -> bool:
        """Whether the token itself is rejected on a live session (rows 7 and 9)."""
        return self.row in {Row.TOKEN_REJECTED, Row.SAME_TOKEN_EXPIRED}

    @property
    def replaces_grant(self) -> bool:
        """Whether a valid token becomes the current one of a session that exists (rows 6 and 10).

        The write is a compare-and-set: it fails unless the record is the one that is stored.
        """
        return self.outcome is Outcome.REAUTHENTICATED

    @property
    def allows_cached_record(self) -> bool:
        """Whether the record may come from a cache, which may be a little behind the store.

        So it may where the decision serves the request and writes nothing, where its write fails
        if the record is not what the store has, and where the token is rejected whatever the
        record. Every other decision is made on what the store has.
        """
        return self.serves_unchanged or self.replaces_grant or self.rejects_token

    @property
    def creates_without_token(self) -> bool:
        """Whether a request without a token creates a session (row 1)."""
        return self.row is Row.CREATED_WITHOUT_TOKEN

    @property
    def authenticates_first(self) -> bool:
        """Whether a session without a subject gets one (row 6)."""
        return self.row is Row.UPGRADED

    @property
    def is_subject_mismatch(self) -> bool:
        """Whether a valid token is of another subject than the session (row 12)."""
        return self.row is Row.SUBJECT_MISMATCH

    @property
    def withholds_identity(self) -> bool:
        """Whether an authenticated session answers a request without a token (row 13)."""
        return self.row is Row.WITHOUT_IDENTITY


def unchanged_until(record: Record, limits: Limits) -> float:
    """Until when, in epoch seconds, the record serves its current tokens without a write."""
    idle = TOUCH_FRACTION * _idle_seconds(record, limits)
    return min(record.last_seen_time + idle, record.expire_time)


def decide_unusable_session(record: Record | None, *, create: bool, now: float) -> Decision | None:
    """Rows 4, 14 and 15: the session is unknown, revoked or expired. None where it is usable."""
    if record is None:
        return None if create else _reject(Row.UNKNOWN_SESSION, Reason.SESSION_NOT_FOUND)
    if now >= record.expire_time:
        tombstone = record.revoke_time is not None
        reason = Reason.SESSION_NOT_FOUND if tombstone else Reason.SESSION_EXPIRED
        return Decision(Row.EXPIRED, error=AuthError(reason), record=record, change=Change.REMOVE)
    if record.revoke_time is not None:
        return _reject(Row.REVOKED, Reason.SESSION_REVOKED)
    return None


def decide(
    record: Record | None,
    token: PresentedToken,
    *,
    session_id: str,
    resource: str,
    now: float,
    limits: Limits,
) -> Decision:
    """Rows 1 to 3 and 5 to 13, where ``decide_unusable_session`` has returned None.

    Args:
        record: what is stored under ``session_id``.
        token: the verification of what was presented, for ``resource``, at ``now``.
        session_id: a checked id.
        resource: the resource that the token was verified for.
        now: seconds since the epoch.
        limits: how long sessions last.
    """
    if record is None:
        return _decide_new(token, session_id, resource, now, limits)
    if isinstance(token, RejectedToken):
        return Decision(_row_of_rejection(record, token, resource), error=token.error)
    if token is None:
        if record.authenticated:
            return Decision(Row.WITHOUT_IDENTITY, Outcome.REUSED, record=record)
        return _reuse(Row.STILL_UNAUTHENTICATED, record, None, now, limits)
    return _decide_verified(record, token, resource, now, limits)


def decide_principal_session(
    record: Record | None, token: VerifiedToken, *, resource: str, now: float, limits: Limits
) -> Decision:
    """Row 17: the principal session is found or created, then as rows 8 to 11.

    No client holds its id, so one that has expired begins anew. Its revocation is a not-before that
    the record keeps: tokens issued up to it are rejected (row 14), a later one is served.
    """
    session_id = principal_session_id(token.principal, resource)
    revoke_time = record.revoke_time if record else None
    if revoke_time is not None and token.issue_time <= revoke_time:
        return _reject(Row.REVOKED, Reason.SESSION_REVOKED)
    if record is None:
        decision = _decide_new(token, session_id, resource, now, limits)
    elif now >= record.expire_time:
        decision = _decide_new(token, session_id, resource, now, limits, expired=record)
    else:
        decision = _decide_verified(record, token, resource, now, limits)
    return replace(decision, row=Row.PRINCIPAL_SESSION)


def revoke(record: Record, *, now: float, limits: Limits) -> Record | None:
    """The tombstone of a session: requests get SESSION_REVOKED until it ends.

    Returns:
        None when there is nothing left to revoke.
    """
    is_principal_session = record.id.startswith(PRINCIPAL_SESSION_PREFIX)
    if now >= record.expire_time or (record.revoke_time is not None and not is_principal_session):
        return None
    return replace(
        record,
        revision=record.revision + 1,
        revoke_time=now,
        expire_time=now + limits.tombstone_seconds,
    )


def _decide_new(
    token: PresentedToken,
    session_id: str,
    resource: str,
    now: float,
    limits: Limits,
    *,
    expired: Record | None = None,
) -> Decision:
    """Rows 1 to 3: there is no record, or an ``expired`` one, and one may be created."""
    if isinstance(token, RejectedToken):
        return Decision(Row.NOT_CREATED, error=token.error)
    record = Record(session_id, 1, now, now, now)
    if expired is not None:
        record = replace(record, revision=expired.revision + 1, revoke_time=expired.revoke_time)
    if token is None:
        record = replace(record, expire_time=_expire_time(record, now, limits))
        return Decision(
            Row.CREATED_WITHOUT_TOKEN, Outcome.CREATED, record=record, change=Change.WRITE
        )
    record = _bind(record, token, resource, now, limits, revision=record.revision)
    return Decision(
        Row.CREATED_WITH_TOKEN,
        Outcome.CREATED,
        record=record,
        change=Change.WRITE,
        principal=token.principal,
        ended=expired,
    )


def _decide_verified(
    record: Record, token: VerifiedToken, resource: str, now: float, limits: Limits
) -> Decision:
    """Rows 6, 8 and 10 to 12: a valid token on a live session."""
    who = token.principal
    if not record.authenticated:
        return _reauthenticate(Row.UPGRADED, record, token, resource, now, limits)
    if (record.issuer, record.subject) != (who.issuer, who.subject):
        return Decision(
            Row.SUBJECT_MISMATCH, error=AuthError(Reason.SESSION_SUBJECT_MISMATCH), record=record
        )
    current = record.grants.get(resource)
    if current is None:
        return _reauthenticate(Row.NEWER_TOKEN, record, token, resource, now, limits)
    if hmac.compare_digest(current.digest, token.digest):
        return _reuse(Row.SAME_TOKEN, record, who, now, limits)
    if (token.issue_time, who.expire_time) > (current.issue_time, current.expire_time):
        return _reauthenticate(Row.NEWER_TOKEN, record, token, resource, now, limits)
    return _reuse(Row.OLDER_TOKEN, record, who, now, limits)


def _reauthenticate(
    row: Row, record: Record, token: VerifiedToken, resource: str, now: float, limits: Limits
) -> Decision:
    bound = _bind(record, token, resource, now, limits, revision=record.revision + 1)
    return Decision(
        row, Outcome.REAUTHENTICATED, record=bound, change=Change.WRITE, principal=token.principal
    )


def _reuse(
    row: Row, record: Record, principal: Principal | None, now: float, limits: Limits
) -> Decision:
    if now - record.last_seen_time < TOUCH_FRACTION * _idle_seconds(record, limits):
        return Decision(row, Outcome.REUSED, record=record, principal=principal)
    touched = replace(record, last_seen_time=now, expire_time=_expire_time(record, now, limits))
    return Decision(row, Outcome.REUSED, record=touched, change=Change.TOUCH, principal=principal)


def _reject(row: Row, reason: Reason) -> Decision:
    return Decision(row, error=AuthError(reason))


def _row_of_rejection(record: Record, token: RejectedToken, resource: str) -> Row:
    """Row 9 where it is the current token of the session, which has expired; else row 7."""
    current = record.grants.get(resource)
    known = current is not None and hmac.compare_digest(current.digest, token.digest)
    expired = known and token.error.reason is Reason.TOKEN_EXPIRED
    return Row.SAME_TOKEN_EXPIRED if expired else Row.TOKEN_REJECTED


def _bind(
    record: Record,
    token: VerifiedToken,
    resource: str,
    now: float,
    limits: Limits,
    *,
    revision: int,
) -> Record:
    """The record with a token as the current one of a resource, bound to its subject."""
    return replace(
        record,
        revision=revision,
        issuer=token.principal.issuer,
        subject=token.principal.subject,
        grants=MappingProxyType({**record.grants, resource: token.grant()}),
        last_seen_time=now,
        expire_time=_end(record, limits.authenticated_idle_seconds, now, limits),
    )


def _idle_seconds(record: Record, limits: Limits) -> float:
    if record.authenticated:
        return limits.authenticated_idle_seconds
    return limits.unauthenticated_idle_seconds


def _expire_time(record: Record, now: float, limits: Limits) -> float:
    return _end(record, _idle_seconds(record, limits), now, limits)


def _end(record: Record, idle_seconds: float, now: float, limits: Limits) -> float:
    return min(now + idle_seconds, record.create_time + limits.absolute_seconds)
