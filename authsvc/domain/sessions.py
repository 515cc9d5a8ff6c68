"""The session record and the decision table (docs/sessions.md): pure, no I/O, no clock.

The record decides *whether* a request is served; the token of the request says *who* it is. A
record holds no claims, so no answer can carry an identity that the request did not prove.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from sys import getsizeof
from types import MappingProxyType

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    SESSION_ID_MAX_LENGTH,
    Outcome,
    Principal,
    Session,
    SessionState,
)

PRINCIPAL_SESSION_PREFIX = "~"
"""Begins the id of a principal session (row 17). No client can name such an id, so nobody can
create or occupy another's record."""

TOUCH_FRACTION = 0.01
"""``last_seen_time`` is written when this part of the idle limit has passed: limits are kept to
one percent, and the hot path writes next to nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long sessions last, and how long revocations are kept. Times in seconds.

    The defaults are long on purpose: common MCP clients raise on 404 instead of initialising
    again, and an id without a token opens nothing. A token that is older than not-befores are kept
    is rejected: the not-before that revoked it may have been dropped.
    """

    unauthenticated_idle_seconds: float = 3600.0
    authenticated_idle_seconds: float = 86400.0
    absolute_seconds: float = 30 * 86400.0
    tombstone_seconds: float = 86400.0
    not_befores_kept_seconds: float = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What is kept of a session's current token at one resource: enough to know it again.

    Attributes:
        digest: SHA-256 of the token, 32 bytes.
        issue_time: claim ``iat``.
        expire_time: claim ``exp``.
        token_id: claim ``jti``; empty when absent.
        client_id: claim ``client_id`` or ``azp``; empty when absent.
    """

    digest: bytes = field(repr=False)
    issue_time: float
    expire_time: float
    token_id: str = ""
    client_id: str = ""


_RECORD_BYTES = 600
_GRANT_BYTES = 350
"""What a record and each grant take beside their texts."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored session. Unauthenticated while ``subject`` is empty.

    Attributes:
        id: the session id, or that of a principal session.
        revision: 1 when created, one more with each change.
        create_time: when it was created; the absolute limit counts from here.
        last_seen_time: when it was last used, to within ``TOUCH_FRACTION`` of the idle limit.
        expire_time: after it the record is as good as gone; for a revoked one, the tombstone's end.
        issuer: claim ``iss`` that it is bound to.
        subject: claim ``sub`` that it is bound to.
        grants: the current token by resource.
        revoke_time: when it was revoked; None when it never was. A principal session lives on for
            tokens issued later.
    """

    id: str
    revision: int
    create_time: float
    last_seen_time: float
    expire_time: float
    issuer: str = ""
    subject: str = ""
    grants: Mapping[str, Grant] = field(default_factory=lambda: MappingProxyType({}))
    revoke_time: float | None = None

    @property
    def authenticated(self) -> bool:
        """Whether the record is bound to a subject."""
        return bool(self.subject)

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate for caches."""
        texts = (self.id, self.issuer, self.subject)
        grants = (
            getsizeof(resource) + getsizeof(grant.token_id) + getsizeof(grant.client_id)
            for resource, grant in self.grants.items()
        )
        each = _GRANT_BYTES * len(self.grants)
        return _RECORD_BYTES + sum(map(getsizeof, texts)) + sum(grants) + each

    def seen_by(self, principal: Principal | None) -> Session:
        """The session as the caller of this request may see it (row 13)."""
        state = SessionState.AUTHENTICATED if principal else SessionState.UNAUTHENTICATED
        return Session(self.id, state, self.revision, self.create_time, self.expire_time)


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that passed every check: the verdict VALID.

    Attributes:
        digest: SHA-256 of its canonical bytes.
        principal: who it says is asking.
        issue_time: claim ``iat``; 0 where the issuer is configured to do without.
        token_id: claim ``jti``; empty when absent.
    """

    digest: bytes = field(repr=False)
    principal: Principal
    issue_time: float
    token_id: str = ""

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate for caches."""
        return _GRANT_BYTES + getsizeof(self.token_id) + self.principal.memory_bytes()

    def grant(self) -> Grant:
        """What a record keeps of it."""
        who = self.principal
        return Grant(self.digest, self.issue_time, who.expire_time, self.token_id, who.client_id)


@dataclass(frozen=True, slots=True)
class RefusedToken:
    """A token that did not pass: the verdict INVALID, or UNAVAILABLE where that is the reason.

    Attributes:
        digest: SHA-256 of its bytes.
        error: why.
    """

    digest: bytes = field(repr=False)
    error: AuthError


PresentedToken = VerifiedToken | RefusedToken | None
"""The verification of what a request presented; None when it presented no token."""


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
    """What to answer and what to write, for one row of the table.

    Attributes:
        row: the row's number.
        outcome: set when the request is served.
        error: set when it is refused.
        record: the record that is answered with or refused, as it stands after the request.
        change: what becomes of that record in the store.
        principal: who is asking; always by the token of this request.
    """

    row: int
    outcome: Outcome | None = None
    error: AuthError | None = None
    record: Record | None = None
    change: Change = Change.NONE
    principal: Principal | None = None

    @property
    def serves_unchanged(self) -> bool:
        """Whether it serves the request and writes nothing. Memory may be a little behind the
        store, so it may lead to such a decision and to no other."""
        return self.outcome is not None and self.change is Change.NONE

    @property
    def stands_by_itself(self) -> bool:
        """Whether memory may lead to it: it serves and writes nothing, or the token itself is
        refused, whatever the record (rows 7 and 9)."""
        return self.serves_unchanged or self.row in {7, 9}


def unchanged_until(record: Record, limits: Limits) -> float:
    """Until when the record goes on serving its current tokens without being written."""
    idle = TOUCH_FRACTION * _idle_seconds(record, limits)
    return min(record.last_seen_time + idle, record.expire_time)


def check_session_id(session_id: str) -> None:
    """Refuse an id that no session can have.

    Raises:
        AuthError: SESSION_ID_INVALID unless 1 to 128 characters of visible ASCII (MCP
            "Session Management") that do not begin like a principal session's.
    """
    if (
        not 0 < len(session_id) <= SESSION_ID_MAX_LENGTH
        or session_id.startswith(PRINCIPAL_SESSION_PREFIX)
        or not all("!" <= character <= "~" for character in session_id)
    ):
        raise AuthError(Reason.SESSION_ID_INVALID)


def principal_session_id(principal: Principal, resource: str) -> str:
    """The id of the principal session of (issuer, subject, client, resource), for row 17."""
    key = json.dumps([principal.issuer, principal.subject, principal.client_id, resource])
    digest = base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
    return PRINCIPAL_SESSION_PREFIX + digest.rstrip(b"=").decode()


def decide_without_token(record: Record | None, *, create: bool, now: float) -> Decision | None:
    """Rows 4, 14 and 15, which hold whatever was presented; None when the token matters."""
    if record is None:
        return None if create else _refuse(4, Reason.SESSION_NOT_FOUND)
    if now >= record.expire_time:
        tombstone = record.revoke_time is not None
        reason = Reason.SESSION_NOT_FOUND if tombstone else Reason.SESSION_EXPIRED
        return Decision(15, error=AuthError(reason), record=record, change=Change.REMOVE)
    if record.revoke_time is not None:
        return _refuse(14, Reason.SESSION_REVOKED)
    return None


def decide(
    record: Record | None,
    token: PresentedToken,
    *,
    session_id: str,
    resource: str,
    create: bool,
    now: float,
    limits: Limits,
) -> Decision:
    """The decision table, rows 1 to 15, for one request.

    Args:
        record: what is stored under ``session_id``.
        token: the verification of what was presented, for ``resource``, at ``now``.
        session_id: a checked id.
        resource: the resource that the token was verified for.
        create: whether an unknown session is created.
        now: seconds since the epoch.
        limits: how long sessions last.
    """
    settled = decide_without_token(record, create=create, now=now)
    if settled is not None:
        return settled
    if record is None:
        return _decide_new(token, session_id, resource, now, limits)
    if isinstance(token, RefusedToken):
        return Decision(_row_of_refusal(record, token, resource), error=token.error)
    if token is None:
        if record.authenticated:
            return Decision(13, Outcome.REUSED, record=record)
        return _reuse(5, record, None, now, limits)
    return _decide_verified(record, token, resource, now, limits)


def decide_principal_session(
    record: Record | None, token: VerifiedToken, *, resource: str, now: float, limits: Limits
) -> Decision:
    """Row 17: the principal session is found or created, then as rows 8 to 11.

    Nobody holds its id, so one that has expired begins anew, and a revocation is a not-before that
    its record keeps: tokens issued up to it are refused (row 14), a later one goes on.
    """
    session_id = principal_session_id(token.principal, resource)
    revoke_time = record.revoke_time if record else None
    if revoke_time is not None and token.issue_time <= revoke_time:
        return _refuse(14, Reason.SESSION_REVOKED)
    if record is None:
        decision = _decide_new(token, session_id, resource, now, limits)
    elif now >= record.expire_time:
        decision = _decide_new(token, session_id, resource, now, limits, expired=record)
    else:
        decision = _decide_verified(record, token, resource, now, limits)
    return replace(decision, row=17)


def revoke(record: Record, *, now: float, limits: Limits) -> Record | None:
    """The tombstone of a session: it answers SESSION_REVOKED until it ends.

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
    """Rows 1 to 3: no record yet, or one that has ``expired``, and one may be made."""
    if isinstance(token, RefusedToken):
        return Decision(3, error=token.error)
    record = Record(session_id, 1, now, now, now)
    if expired is not None:
        record = replace(record, revision=expired.revision + 1, revoke_time=expired.revoke_time)
    if token is None:
        record = replace(record, expire_time=_expire_time(record, now, limits))
        return Decision(1, Outcome.CREATED, record=record, change=Change.WRITE)
    record = _bind(record, token, resource, now, limits)
    return Decision(
        2, Outcome.CREATED, record=record, change=Change.WRITE, principal=token.principal
    )


def _decide_verified(
    record: Record, token: VerifiedToken, resource: str, now: float, limits: Limits
) -> Decision:
    """Rows 6, 8 and 10 to 12: a valid token on a live session."""
    who = token.principal
    if not record.authenticated:
        return _reauthenticate(6, record, token, resource, now, limits)
    if (record.issuer, record.subject) != (who.issuer, who.subject):
        return Decision(12, error=AuthError(Reason.SESSION_SUBJECT_MISMATCH), record=record)
    current = record.grants.get(resource)
    if current is None:
        return _reauthenticate(10, record, token, resource, now, limits)
    if hmac.compare_digest(current.digest, token.digest):
        return _reuse(8, record, who, now, limits)
    if (token.issue_time, who.expire_time) > (current.issue_time, current.expire_time):
        return _reauthenticate(10, record, token, resource, now, limits)
    return _reuse(11, record, who, now, limits)


def _reauthenticate(
    row: int, record: Record, token: VerifiedToken, resource: str, now: float, limits: Limits
) -> Decision:
    bound = _bind(replace(record, revision=record.revision + 1), token, resource, now, limits)
    return Decision(
        row, Outcome.REAUTHENTICATED, record=bound, change=Change.WRITE, principal=token.principal
    )


def _reuse(
    row: int, record: Record, principal: Principal | None, now: float, limits: Limits
) -> Decision:
    if now - record.last_seen_time < TOUCH_FRACTION * _idle_seconds(record, limits):
        return Decision(row, Outcome.REUSED, record=record, principal=principal)
    seen = replace(record, last_seen_time=now, expire_time=_expire_time(record, now, limits))
    return Decision(row, Outcome.REUSED, record=seen, change=Change.TOUCH, principal=principal)


def _refuse(row: int, reason: Reason) -> Decision:
    return Decision(row, error=AuthError(reason))


def _row_of_refusal(record: Record, token: RefusedToken, resource: str) -> int:
    """9 when the refused token is the session's own, grown old; else 7."""
    current = record.grants.get(resource)
    known = current is not None and hmac.compare_digest(current.digest, token.digest)
    return 9 if known and token.error.reason is Reason.TOKEN_EXPIRED else 7


def _bind(
    record: Record, token: VerifiedToken, resource: str, now: float, limits: Limits
) -> Record:
    bound = replace(
        record,
        issuer=token.principal.issuer,
        subject=token.principal.subject,
        grants=MappingProxyType({**record.grants, resource: token.grant()}),
        last_seen_time=now,
    )
    return replace(bound, expire_time=_expire_time(bound, now, limits))


def _idle_seconds(record: Record, limits: Limits) -> float:
    if record.authenticated:
        return limits.authenticated_idle_seconds
    return limits.unauthenticated_idle_seconds


def _expire_time(record: Record, now: float, limits: Limits) -> float:
    idle = now + _idle_seconds(record, limits)
    return min(idle, record.create_time + limits.absolute_seconds)
