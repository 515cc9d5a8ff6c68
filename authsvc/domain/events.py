"""Events of sessions, as stores log them and operators see them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from sys import getsizeof

from authsvc.domain.record import PRINCIPAL_SESSION_PREFIX, Record
from authsvc.domain.revocation import NotBefore

EVENT_BYTES = 2_600
"""Bytes that an event may take in memory on average: twice what one with one grant takes. Where
events take more, fewer are kept."""

MIN_PREFIX_LENGTH = 6
"""Characters of a session id's prefix, at least: with fewer, too many sessions match."""

_EVENT_BYTES = 400
"""Bytes that an event takes beside its record or the texts of its not-before."""


class EventType(Enum):
    """What happened. Values are those of the proto."""

    CREATED = 1
    REAUTHENTICATED = 2
    REVOKED = 3
    EXPIRED = 4
    SUBJECT_MISMATCH = 5
    TOKENS_REVOKED = 6


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One event.

    Attributes:
        type: what happened.
        time: when, in seconds since the epoch.
        record: the record after the event; None for a not-before.
        not_before: the not-before that was set; None for other events.
    """

    type: EventType
    time: float
    record: Record | None = None
    not_before: NotBefore | None = None

    def memory_bytes(self) -> int:
        """Bytes that it takes in memory: an estimate for bounds."""
        record = self.record.memory_bytes() if self.record is not None else 0
        names = self.not_before.key if self.not_before is not None else ()
        return _EVENT_BYTES + record + sum(map(getsizeof, names))


def event_time(event_type: EventType, record: Record) -> float:
    """When a write of ``record`` happened, by its own times."""
    if event_type is EventType.REVOKED and record.revoke_time is not None:
        return record.revoke_time
    return record.expire_time if event_type is EventType.EXPIRED else record.last_seen_time


def revoked_since(record: Record) -> float | None:
    """When a session was revoked, in seconds since the epoch; None where it is not revoked."""
    since = record.revoke_time
    if since is None or not record.id.startswith(PRINCIPAL_SESSION_PREFIX):
        return since
    # A principal session remains usable for tokens that were issued after its revocation.
    is_used = any(grant.issue_time > since for grant in record.grants.values())
    return None if is_used else since


class RecordState(Enum):
    """The state of a session, as operators see it. Values are what they read."""

    REVOKED = "revoked"
    TOKENS_REVOKED = "tokens revoked"
    AUTHENTICATED = "authenticated"
    UNAUTHENTICATED = "unauthenticated"


def state_of(record: Record) -> RecordState:
    """The state of a session.

    TOKENS_REVOKED: each of its tokens is revoked, and it goes on with a token that is issued later.
    """
    if revoked_since(record) is not None:
        return RecordState.REVOKED
    if record.grants and all(grant.token_revoked for grant in record.grants.values()):
        return RecordState.TOKENS_REVOKED
    return RecordState.AUTHENTICATED if record.authenticated else RecordState.UNAUTHENTICATED


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records: each attribute that is set has to match, exactly but for the prefix.

    Attributes:
        issuer: claim ``iss`` that they are bound to.
        subject: claim ``sub`` that they are bound to.
        authenticated: whether they are bound at all; None for either.
        resource: one that they hold a token for.
        id_prefix: what their id begins with. authsvc takes ``MIN_PREFIX_LENGTH`` characters or
            more.
    """

    issuer: str = ""
    subject: str = ""
    authenticated: bool | None = None
    resource: str = ""
    id_prefix: str = ""

    def matches(self, record: Record) -> bool:
        """Whether a record is one of them."""
        return (
            (not self.issuer or record.issuer == self.issuer)
            and (not self.subject or record.subject == self.subject)
            and (self.authenticated is None or record.authenticated == self.authenticated)
            and (not self.resource or self.resource in record.grants)
            and record.id.startswith(self.id_prefix)
        )
