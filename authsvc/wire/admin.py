"""Between records, events and statuses and the messages for operators, both ways."""

from __future__ import annotations

from types import MappingProxyType

from authsvc.common.formats import spelled_resource
from authsvc.common.printable import printable
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, SessionEvent, revoked_since
from authsvc.domain.provider_session import NO_PROVIDER_SESSION
from authsvc.domain.record import Grant, Record
from authsvc.domain.resolution import Session, SessionState
from authsvc.domain.revocation import END_OF_TIME, NotBefore
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    RevocationTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.domain.service_status import (
    IssuerState,
    IssuerStatus,
    KeyFacts,
    ServiceStatus,
    SessionCounts,
    SkippedKey,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.auth import session_message
from authsvc.wire.principals import seconds, timestamp
from authsvc.wire.revocation import revocation_message

RESUME_TOKEN_KEY = "authsvc-resume-token"  # noqa: S105 - a name
"""The initial metadata of ``WatchSessions`` that carries the resume token before any event."""

_EVENT_TYPES = {event_type.value: event_type for event_type in EventType}
_ISSUER_STATES = {state.value: state for state in IssuerState}

_AUTHENTICATED = {
    pb.SESSION_STATE_UNSPECIFIED: None,
    pb.SESSION_STATE_UNAUTHENTICATED: False,
    pb.SESSION_STATE_AUTHENTICATED: True,
}


def record_message(record: Record) -> pb.SessionRecord:
    """A record for operators: with attributes of its tokens, without their digests."""
    state = SessionState.AUTHENTICATED if record.authenticated else SessionState.UNAUTHENTICATED
    revoke_time = revoked_since(record)
    session = Session(record.id, state, record.revision, record.create_time, record.expire_time)
    return pb.SessionRecord(
        session=session_message(session),
        issuer=record.issuer,
        subject=record.subject,
        grants=[
            pb.SessionRecord.Grant(
                resource=resource,
                token_id=grant.token_id,
                issue_time=timestamp(grant.issue_time),
                expire_time=timestamp(grant.expire_time),
                client_id=grant.client_id,
                provider_session=grant.provider_session,
                token_revoked=grant.token_revoked,
            )
            for resource, grant in record.grants.items()
        ],
        last_seen_time=timestamp(record.last_seen_time),
        revoke_time=None if revoke_time is None else timestamp(revoke_time),
    )


def record_of(message: pb.SessionRecord) -> Record:
    """The inverse of ``record_message``: its grants have empty digests."""
    session = message.session
    return Record(
        id=session.id,
        revision=session.revision,
        create_time=seconds(session.create_time),
        last_seen_time=seconds(message.last_seen_time),
        expire_time=seconds(session.expire_time),
        issuer=message.issuer,
        subject=message.subject,
        grants=MappingProxyType(
            {
                grant.resource: Grant(
                    b"",
                    seconds(grant.issue_time),
                    seconds(grant.expire_time),
                    grant.token_id,
                    grant.client_id,
                    grant.provider_session,
                    token_revoked=grant.token_revoked,
                )
                for grant in message.grants
            }
        ),
        revoke_time=seconds(message.revoke_time) if message.HasField("revoke_time") else None,
    )


def filter_message(which: RecordFilter) -> pb.SessionFilter:
    """A filter for the wire."""
    states = {authenticated: state for state, authenticated in _AUTHENTICATED.items()}
    return pb.SessionFilter(
        issuer=which.issuer,
        subject=which.subject,
        state=states[which.authenticated],
        resource=which.resource,
        session_id_prefix=which.id_prefix,
    )


def filter_of(message: pb.SessionFilter) -> RecordFilter:
    """The inverse of ``filter_message``.

    Raises:
        AuthError: ARGUMENT_INVALID: an unknown state.
    """
    if message.state not in _AUTHENTICATED:
        raise AuthError(Reason.ARGUMENT_INVALID, "filter.state is unknown")
    return RecordFilter(
        message.issuer,
        message.subject,
        _AUTHENTICATED[message.state],
        spelled_resource(message.resource),
        message.session_id_prefix,
    )


def event_message(position: str, event: SessionEvent) -> pb.WatchSessionsResponse:
    """An event of the log, and its resume token."""
    message = pb.WatchSessionsResponse(
        resume_token=position,
        event_time=timestamp(event.time),
        type=pb.SessionEventType.ValueType(event.type.value),
    )
    if event.record is not None:
        message.session.CopyFrom(record_message(event.record))
    if event.not_before is not None:
        message.revocation.CopyFrom(_not_before_message(event.not_before))
    return message


def event_of(message: pb.WatchSessionsResponse) -> SessionEvent | None:
    """The inverse of ``event_message``; None for a type that a later version sends."""
    event_type = _EVENT_TYPES.get(message.type)
    if event_type is None:
        return None
    time = seconds(message.event_time)
    return SessionEvent(
        event_type,
        time,
        record_of(message.session) if message.HasField("session") else None,
        _not_before_of(message.revocation, time) if message.HasField("revocation") else None,
    )


def _not_before_message(not_before: NotBefore) -> pb.RevokeSessionsRequest:
    """The revocation that set a not-before; a provider session by its digest."""
    session = not_before.provider_session
    if not session:
        return revocation_message(_not_before_target(not_before))
    return pb.RevokeSessionsRequest(
        provider_session=pb.RevokeSessionsRequest.ProviderSessionTarget(
            issuer=not_before.issuer,
            subject=not_before.subject,
            digest="" if session == NO_PROVIDER_SESSION else session,
        ),
        before_time=timestamp(not_before.time),
    )


def _not_before_target(not_before: NotBefore) -> RevocationTarget:
    if not_before.token_id:
        return TokenTarget(not_before.issuer, not_before.token_id)
    if not_before.subject:
        return SubjectTarget(not_before.issuer, not_before.subject, not_before.time)
    return EveryoneTarget(not_before.time)


def _not_before_of(message: pb.RevokeSessionsRequest, set_time: float) -> NotBefore:
    target = message.WhichOneof("target")
    if target == "token":
        it = message.token
        return NotBefore(END_OF_TIME, set_time, issuer=it.issuer, token_id=it.token_id)
    time = seconds(message.before_time)
    if target == "provider_session":
        session = message.provider_session
        return NotBefore(
            time,
            set_time,
            session.issuer,
            session.subject,
            provider_session=session.digest or NO_PROVIDER_SESSION,
        )
    if target == "subject":
        return NotBefore(time, set_time, message.subject.issuer, message.subject.subject)
    return NotBefore(time, set_time)


def status_message(status: ServiceStatus) -> pb.GetServiceStatusResponse:
    """The status of the service."""
    counts = status.sessions
    return pb.GetServiceStatusResponse(
        version=status.version,
        start_time=timestamp(status.start_time),
        status_time=timestamp(status.time),
        store_ready=status.store_ready,
        issuers=map(_issuer_message, status.issuers),
        sessions=None
        if counts is None
        else pb.SessionCounts(
            unauthenticated_count=counts.unauthenticated,
            authenticated_count=counts.authenticated,
            revoked_count=counts.revoked,
        ),
    )


def service_status_of(message: pb.GetServiceStatusResponse) -> ServiceStatus:
    """The inverse of ``status_message``."""
    counts = message.sessions
    return ServiceStatus(
        version=message.version,
        start_time=seconds(message.start_time),
        time=seconds(message.status_time),
        store_ready=message.store_ready,
        issuers=tuple(map(_issuer_of, message.issuers)),
        sessions=SessionCounts(
            counts.unauthenticated_count,
            counts.authenticated_count,
            counts.revoked_count,
        )
        if message.HasField("sessions")
        else None,
    )


def _issuer_message(issuer: IssuerStatus) -> pb.IssuerStatus:
    fetch_time = issuer.fetch_time
    return pb.IssuerStatus(
        issuer=issuer.issuer,
        state=pb.IssuerState.ValueType(issuer.state.value),
        key_source=issuer.key_source,
        keys=[
            pb.IssuerStatus.Key(key_id=it.key_id, algorithm=it.algorithm, previous=it.previous)
            for it in issuer.keys
        ],
        fetch_time=None if fetch_time is None else timestamp(fetch_time),
        failure=printable(issuer.failure),  # a path in it need not be Unicode
        skipped_keys=[
            pb.IssuerStatus.SkippedKey(entry=it.entry, cause=it.cause, invalid=it.is_invalid)
            for it in issuer.skipped_keys
        ],
    )


def _issuer_of(message: pb.IssuerStatus) -> IssuerStatus:
    return IssuerStatus(
        message.issuer,
        # A state of a later version.
        _ISSUER_STATES.get(message.state, IssuerState.UNAVAILABLE),
        message.key_source,
        tuple(KeyFacts(it.key_id, it.algorithm, it.previous) for it in message.keys),
        seconds(message.fetch_time) if message.HasField("fetch_time") else None,
        skipped_keys=tuple(
            SkippedKey(it.entry, it.cause, it.invalid) for it in message.skipped_keys
        ),
        failure=message.failure,
    )
