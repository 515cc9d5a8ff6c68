"""Sessions and events as output: table rows, lines and JSON documents."""

from __future__ import annotations

from authsvc.common.times import relative, rfc3339
from authsvc.domain.events import RecordState, SessionEvent, state_of
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, shown_digest
from authsvc.domain.record import Grant, Record
from authsvc.domain.resolution import shown
from authsvc.domain.revocation import NotBefore

HEADERS = ("SESSION", "STATE", "SUBJECT", "ISSUER", "RESOURCES", "LAST SEEN", "EXPIRES")


def state_option(state: RecordState) -> str:
    """A state in JSON and as ``--state`` takes it: one word."""
    return state.value.replace(" ", "-")


def row(record: Record, now: float, *, full_id: bool) -> list[str]:
    """The cells under ``HEADERS``.

    Ids are truncated as in logs, because tables are pasted into tickets. An id alone grants no
    access, so an operator may print whole ones.
    """
    return [
        record.id if full_id else shown(record.id),
        state_of(record).value,
        record.subject or "-",
        record.issuer or "-",
        " ".join(record.grants) or "-",
        relative(record.last_seen_time, now),
        relative(record.expire_time, now),
    ]


def document(record: Record) -> dict[str, object]:
    """A session as JSON, with its whole id."""
    found = _recorded(record)
    found["grants"] = [
        {**_grant(resource, grant), "token_revoked": grant.token_revoked}
        for resource, grant in record.grants.items()
    ]
    return found


def _recorded(record: Record) -> dict[str, object]:
    """As ``document``, without what only the not-befores in force say: for events."""
    return {
        "id": record.id,
        "state": state_option(state_of(record)),
        "issuer": record.issuer,
        "subject": record.subject,
        "revision": record.revision,
        "create_time": rfc3339(record.create_time),
        "last_seen_time": rfc3339(record.last_seen_time),
        "expire_time": rfc3339(record.expire_time),
        "revoke_time": None if record.revoke_time is None else rfc3339(record.revoke_time),
        "grants": [_grant(resource, grant) for resource, grant in record.grants.items()],
    }


def _grant(resource: str, grant: Grant) -> dict[str, object]:
    return {
        "resource": resource,
        "client_id": grant.client_id,
        "token_id": grant.token_id,
        "issue_time": rfc3339(grant.issue_time),
        "expire_time": rfc3339(grant.expire_time),
        "provider_session": grant.provider_session,
    }


def event_document(event: SessionEvent, resume_token: str) -> dict[str, object]:
    """An event as JSON."""
    not_before = event.not_before
    return {
        "time": rfc3339(event.time),
        "type": event.type.name,
        "session": None if event.record is None else _recorded(event.record),
        "revocation": None
        if not_before is None
        else {
            "issuer": not_before.issuer,
            "subject": not_before.subject,
            "token_id": not_before.token_id,
            "provider_session": not_before.provider_session,
            "before_time": rfc3339(not_before.time),
        },
        "resume_token": resume_token,
    }


def event_line(event: SessionEvent, *, full_id: bool) -> str:
    """An event as one line of text."""
    parts = [rfc3339(event.time), event.type.name.ljust(16)]
    if event.record is not None:
        record = event.record
        parts += [record.id if full_id else shown(record.id), record.subject or "-"]
        parts += record.grants
    if event.not_before is not None:
        parts.append(_revoked_target(event.not_before))
    return "  ".join(parts)


def _revoked_target(not_before: NotBefore) -> str:
    issuer, subject, token_id, session = not_before.key
    if session == NO_PROVIDER_SESSION:
        return f"every token of {subject} of {issuer} without a provider session"
    if session:
        return f"every token of provider session {shown_digest(session)} of {issuer}"
    if subject:
        return f"every token of {subject} of {issuer}"
    return f"token {token_id} of {issuer}" if token_id else "every token of everyone"
