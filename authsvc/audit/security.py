"""Audit: security events, in a log of their own: what was rejected or denied, and what was revoked.

Every event has the fields of docs/audit.md and no others. None of them is a token, a credential or
a whole session id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Protocol

from authsvc.audit.log_records import log_record
from authsvc.audit.unanswered import Unanswered
from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, shown_digest
from authsvc.domain.resolution import shown
from authsvc.domain.tokens import VerifiedToken

LOGGER_NAME = "authsvc.security"

log = logging.getLogger(LOGGER_NAME)
# Independent of the level of the log: a quieter log must not lose evidence.
log.setLevel(logging.INFO)


class SecurityEventType(StrEnum):
    """What happened."""

    TOKEN_REJECTED = "TOKEN_REJECTED"  # noqa: S105 - a name
    SUBJECT_MISMATCH = "SUBJECT_MISMATCH"
    SESSION_CREATED = "SESSION_CREATED"
    SESSION_REAUTHENTICATED = "SESSION_REAUTHENTICATED"
    SESSION_REVOKED = "SESSION_REVOKED"
    SESSION_ENDED = "SESSION_ENDED"
    TOKENS_REVOKED = "TOKENS_REVOKED"
    CALLER_DENIED = "CALLER_DENIED"
    LIMIT_REACHED = "LIMIT_REACHED"
    ADMIN_ACTION = "ADMIN_ACTION"
    KEYS_REPLACED = "KEYS_REPLACED"
    SERVICE_STARTED = "SERVICE_STARTED"
    SIGNAL_RECEIVED = "SIGNAL_RECEIVED"
    SIGNAL_REJECTED = "SIGNAL_REJECTED"


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One event; what does not apply is empty. Fields as in docs/audit.md."""

    event_type: SecurityEventType
    reason: str = ""
    caller: str = ""
    session: str = ""
    resource: str = ""
    issuer: str = ""
    subject: str = ""
    client_id: str = ""
    token_id: str = ""
    detail: str = ""
    setting: str = ""
    client_address: str = ""


FIELDS = tuple(field.name for field in fields(SecurityEvent))

# Not dataclasses.asdict, which copies each value.
values_of: Callable[[SecurityEvent], tuple[str, ...]] = attrgetter(*FIELDS)
"""The values of an event's ``FIELDS``, in their order."""

_LEVELS = {
    SecurityEventType.SUBJECT_MISMATCH: logging.WARNING,
    SecurityEventType.CALLER_DENIED: logging.WARNING,
    SecurityEventType.LIMIT_REACHED: logging.WARNING,
    SecurityEventType.SIGNAL_REJECTED: logging.WARNING,
    SecurityEventType.KEYS_REPLACED: logging.WARNING,
}

_TEXTS = {
    SecurityEventType.TOKEN_REJECTED: "a token was rejected",
    SecurityEventType.SUBJECT_MISMATCH: "a token of another subject was rejected",
    SecurityEventType.SESSION_CREATED: "a session was created",
    SecurityEventType.SESSION_REAUTHENTICATED: "a session has a newer token",
    SecurityEventType.SESSION_REVOKED: "a session was revoked",
    SecurityEventType.SESSION_ENDED: "a session has ended",
    SecurityEventType.TOKENS_REVOKED: "tokens were revoked",
    SecurityEventType.CALLER_DENIED: "a caller was denied",
    SecurityEventType.LIMIT_REACHED: "a limit was reached",
    SecurityEventType.ADMIN_ACTION: "an operator acted",
    SecurityEventType.KEYS_REPLACED: "the keys of assertions were replaced",
    SecurityEventType.SERVICE_STARTED: "the service has started",
    SecurityEventType.SIGNAL_RECEIVED: "a signal was received",
    SecurityEventType.SIGNAL_REJECTED: "a signal was rejected",
}


OF_FILE = frozenset(
    {
        SecurityEventType.SESSION_CREATED,
        SecurityEventType.SESSION_REAUTHENTICATED,
        SecurityEventType.SESSION_ENDED,
    }
)
"""Types of what is no rejection and no revocation, but the rule: they are in the file where there
is one, and else in the log."""


class EventSink(Protocol):
    """Gets each event before the log does, in the thread that it happens in."""

    def take(self, event: SecurityEvent, when: float) -> bool:
        """Take an event. It must not raise.

        Args:
            event: what happened.
            when: in seconds since the epoch.

        Returns:
            Whether the event is kept here: the log has no need of one that is ``OF_FILE``.
        """
        ...


_sinks: tuple[EventSink, ...] = ()


@contextmanager
def also_given_to(sink: EventSink) -> Iterator[None]:
    """Give all events of this process to a sink, too, until the end of the block."""
    global _sinks  # noqa: PLW0603 - as a logger has its handlers
    _sinks = (*_sinks, sink)
    try:
        yield
    finally:
        _sinks = tuple(it for it in _sinks if it is not sink)


def record(event: SecurityEvent) -> None:
    """Audit an event. It is written when this returns: to the file, the log, or both."""
    when = time.time()
    is_kept = False
    for sink in _sinks:
        is_kept = sink.take(event, when) or is_kept
    if is_kept and event.event_type in OF_FILE:
        return
    level = level_of(event)
    if log.isEnabledFor(level):
        fields = zip(FIELDS, values_of(event), strict=True)
        logged = log_record(log, level, text_of(event), fields)
        logged.created = when
        log.handle(logged)


def level_of(event: SecurityEvent) -> int:
    """The level of an event, as of ``logging``."""
    return _LEVELS.get(event.event_type, logging.INFO)


def text_of(event: SecurityEvent) -> str:
    """What happened, for people."""
    return _TEXTS[event.event_type]


def token_rejected(
    error: AuthError,
    *,
    caller: str,
    session_id: str = "",
    resource: str = "",
    client_address: str = "",
    token: VerifiedToken | None = None,
) -> None:
    """Audit that a token was rejected, or was presented on another subject's session.

    Other errors are not audited here: denied callers and limits have functions of their own.

    Args:
        error: why.
        caller: the name of the caller.
        session_id: the whole id of the session; it is shortened here.
        resource: of the request.
        client_address: of the caller's client; empty where it is not known.
        token: the token that was presented, where it is valid.
    """
    event_type = _event_type(error.reason)
    if event_type is None:
        return
    who = token.principal if token else None
    record(
        SecurityEvent(
            event_type,
            reason=error.reason.name,
            caller=caller,
            session=shown(session_id) if session_id else "",
            resource=resource,
            issuer=who.issuer if who else "",
            subject=who.subject if who else "",
            client_id=who.client_id if who else "",
            token_id=token.token_id if token else "",
            detail=error.detail,
            setting=error.setting,
            client_address=client_address,
        )
    )


def caller_denied(error: AuthError, *, caller: str, peer: str, resource: str = "") -> None:
    """Audit that a caller was denied; ``peer`` is the address that it called from."""
    record(
        SecurityEvent(
            SecurityEventType.CALLER_DENIED,
            reason=error.reason.name,
            caller=caller,
            resource=resource,
            detail=f"{error.detail}; from {peer}",
            setting=error.setting,
        )
    )


def tokens_revoked(
    *,
    issuer: str,
    subject: str,
    token_id: str,
    until: float,
    caller: str,
    provider_session: str = "",
    lost: Unanswered | None = None,
) -> None:
    """Audit that tokens were revoked: a subject's, one by its ``jti``, those of a provider session,
    or everyone's.

    Args:
        issuer: of the tokens; empty for everyone's.
        subject: of the tokens; empty for one token, and for everyone's.
        token_id: of the token; empty for a subject's, and for everyone's.
        until: the ``iat`` up to which they are rejected, in seconds since the epoch.
        caller: the operator's name.
        provider_session: see ``NotBefore``; a digest is shortened.
        lost: why it is not known whether they were revoked; None where they were.
    """
    whose = "" if issuer else "everyone's "
    if provider_session == NO_PROVIDER_SESSION:
        whose = "without a provider session, "
    elif provider_session:
        whose = f"of provider session {shown_digest(provider_session)}, "
    detail = f"{whose}issued up to {datetime.fromtimestamp(until, UTC).isoformat()}"
    record(
        SecurityEvent(
            SecurityEventType.TOKENS_REVOKED,
            reason=lost.reason if lost else "",
            caller=caller,
            issuer=issuer,
            subject=subject,
            token_id=token_id,
            detail=lost.with_detail(detail) if lost else detail,
        )
    )


def keys_replaced(key_ids: Iterable[str]) -> None:
    """Audit that the store has other keys of assertions than those in use, and none of these:
    somebody has replaced them, which no rotation by age does."""
    detail = f"key_ids {', '.join(key_ids)}; all others are withdrawn"
    record(SecurityEvent(SecurityEventType.KEYS_REPLACED, detail=detail))


def service_started(address: str, *, version: str, configuration_sha256: str) -> None:
    """Audit that the service has started: its address, version and configuration."""
    detail = f"{address} version={version} configuration_sha256={configuration_sha256}"
    record(SecurityEvent(SecurityEventType.SERVICE_STARTED, detail=detail))


def signal_received(
    *, issuer: str, subject: str, token_id: str, detail: str, client_address: str
) -> None:
    """Audit an event that an identity provider has sent.

    Args:
        issuer: of its stream.
        subject: the user whom it names; empty for none.
        token_id: ``jti`` of the token that it came in.
        detail: what it is, and what it did.
        client_address: of its sender; empty where it was polled.
    """
    record(
        SecurityEvent(
            SecurityEventType.SIGNAL_RECEIVED,
            caller=f"signals[{issuer}]",
            issuer=issuer,
            subject=subject,
            token_id=token_id,
            detail=detail,
            client_address=client_address,
        )
    )


def signal_rejected(*, detail: str, setting: str, client_address: str) -> None:
    """Audit that a signal was rejected: why, and which setting would mend it."""
    record(
        SecurityEvent(
            SecurityEventType.SIGNAL_REJECTED,
            detail=detail,
            setting=setting,
            client_address=client_address,
        )
    )


def _event_type(reason: Reason) -> SecurityEventType | None:
    if reason is Reason.SESSION_SUBJECT_MISMATCH:
        return SecurityEventType.SUBJECT_MISMATCH
    if reason.status is GrpcStatus.UNAUTHENTICATED or reason is Reason.TOKEN_TOO_LARGE:
        return SecurityEventType.TOKEN_REJECTED
    return None
