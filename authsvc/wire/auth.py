"""Conversion between the values of ``domain.resolution`` and the messages of ``auth.proto``."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import MAX_COUNTED, CallCounts, Rate, RateLimit, RatePer
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Outcome,
    Principal,
    Resolution,
    Secret,
    Session,
    SessionState,
)
from authsvc.v1 import auth_pb2 as pb

CONSISTENCY_TOKEN_KEY = "authsvc-consistency-token"  # noqa: S105 - a name
"""The trailer that carries the consistency token of ``RevokeSession``."""

NANOS = 1_000_000_000
"""Nanoseconds in a second."""

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def rate_limit_messages(limits: Iterable[RateLimit]) -> list[pb.RateLimit]:
    """Limits for the wire."""
    return [
        pb.RateLimit(
            name=limit.name,
            calls_per_second=limit.rate.calls_per_second,
            burst=limit.rate.burst,
            per=pb.RatePer.ValueType(limit.per.value),
        )
        for limit in limits
    ]


def counts_of(request: pb.ResolveSessionRequest | pb.CreateSessionRequest) -> CallCounts:
    """What a request counts as.

    Raises:
        AuthError: ARGUMENT_INVALID: a limit is none, or there are too many limits or calls.
    """
    calls, recheck = 1, False
    if isinstance(request, pb.ResolveSessionRequest):
        calls, recheck = request.calls or 1, request.recheck
    if max(calls, len(request.rate_limits)) > MAX_COUNTED:
        raise AuthError(Reason.ARGUMENT_INVALID, f"more than {MAX_COUNTED} calls or limits")
    return CallCounts(tuple(map(_rate_limit, request.rate_limits)), calls, recheck)


def _rate_limit(message: pb.RateLimit) -> RateLimit:
    try:
        return RateLimit(
            message.name, Rate(message.calls_per_second, message.burst), RatePer(message.per)
        )
    except ValueError as error:
        raise AuthError(Reason.ARGUMENT_INVALID, f"rate_limits: {error}") from None


def timestamp(seconds: float) -> Timestamp:
    """Seconds since the epoch as a Timestamp, to the microsecond."""
    micros = round(seconds * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def seconds(message: Timestamp) -> float:
    """A Timestamp as seconds since the epoch."""
    return message.seconds + message.nanos / NANOS


def session_message(session: Session) -> pb.Session:
    """A session for the wire."""
    return pb.Session(
        id=session.id,
        state=pb.SessionState.ValueType(session.state.value),
        revision=session.revision,
        create_time=timestamp(session.create_time),
        expire_time=timestamp(session.expire_time),
    )


def principal_message(principal: Principal) -> pb.Principal:
    """A principal for the wire."""
    return pb.Principal(
        issuer=principal.issuer,
        subject=principal.subject,
        client_id=principal.client_id,
        scopes=principal.scopes,
        roles=principal.roles,
        buckets=principal.buckets,
        permissions=principal.permissions,
        expire_time=timestamp(principal.expire_time),
        claims_json=principal.claims_json,
        actor=None if principal.actor is None else _actor_message(principal.actor),
    )


def _actor_message(actor: Actor) -> pb.Actor:
    return pb.Actor(
        subject=actor.subject,
        issuer=actor.issuer,
        client_id=actor.client_id,
        actor=None if actor.actor is None else _actor_message(actor.actor),
    )


def credentials_message(credentials: Credentials) -> pb.Credentials:
    """Credentials for the wire: the only place where the server reveals them."""
    message = pb.Credentials(expire_time=timestamp(credentials.expire_time))
    if isinstance(credentials, AwsCredentials):
        token = credentials.session_token
        message.aws.access_key_id = credentials.access_key_id
        message.aws.secret_access_key = credentials.secret_access_key.reveal()
        message.aws.session_token = token.reveal() if token else ""
        message.aws.region = credentials.region
    else:
        message.bearer.access_token = credentials.access_token.reveal()
        message.bearer.token_type = credentials.token_type
    return message


def response_message(resolution: Resolution) -> pb.ResolveSessionResponse:
    """The response of ``ResolveSession``."""
    message = pb.ResolveSessionResponse(consistency_token=resolution.consistency_token)
    if resolution.session is not None:
        message.session.CopyFrom(session_message(resolution.session))
    if resolution.outcome is not None:
        message.outcome = pb.Outcome.ValueType(resolution.outcome.value)
    if resolution.principal is not None:
        message.principal.CopyFrom(principal_message(resolution.principal))
    if resolution.credentials is not None:
        message.credentials.CopyFrom(credentials_message(resolution.credentials))
    return message


def created_message(resolution: Resolution) -> pb.CreateSessionResponse:
    """The response of ``CreateSession``."""
    message = response_message(resolution)
    return pb.CreateSessionResponse(
        session=message.session,
        principal=message.principal if message.HasField("principal") else None,
        credentials=message.credentials if message.HasField("credentials") else None,
        consistency_token=message.consistency_token,
    )


def resolution_of(message: pb.ResolveSessionResponse | pb.CreateSessionResponse) -> Resolution:
    """The inverse of ``response_message`` and ``created_message``."""
    if isinstance(message, pb.CreateSessionResponse):
        outcome: Outcome | None = Outcome.CREATED
    else:
        outcome = _OUTCOMES.get(message.outcome)
    return Resolution(
        session=_session(message.session) if message.HasField("session") else None,
        outcome=outcome,
        principal=principal_of(message.principal) if message.HasField("principal") else None,
        credentials=_credentials(message.credentials) if message.HasField("credentials") else None,
        consistency_token=message.consistency_token,
    )


def _session(message: pb.Session) -> Session:
    # Any other state, including one of a later version, counts as unauthenticated.
    authenticated = message.state == pb.SESSION_STATE_AUTHENTICATED
    return Session(
        id=message.id,
        state=SessionState.AUTHENTICATED if authenticated else SessionState.UNAUTHENTICATED,
        revision=message.revision,
        create_time=seconds(message.create_time),
        expire_time=seconds(message.expire_time),
    )


def principal_of(message: pb.Principal) -> Principal:
    """A principal from the wire."""
    return Principal(
        issuer=message.issuer,
        subject=message.subject,
        expire_time=seconds(message.expire_time),
        client_id=message.client_id,
        scopes=tuple(message.scopes),
        roles=tuple(message.roles),
        buckets=tuple(message.buckets),
        permissions=tuple(message.permissions),
        claims_json=message.claims_json,
        actor=_actor(message.actor) if message.HasField("actor") else None,
    )


def _actor(message: pb.Actor) -> Actor:
    return Actor(
        subject=message.subject,
        issuer=message.issuer,
        client_id=message.client_id,
        actor=_actor(message.actor) if message.HasField("actor") else None,
    )


def _credentials(message: pb.Credentials) -> Credentials | None:
    expire_time = seconds(message.expire_time)
    kind = message.WhichOneof("kind")
    if kind == "aws":
        aws = message.aws
        return AwsCredentials(
            access_key_id=aws.access_key_id,
            secret_access_key=Secret(aws.secret_access_key),
            session_token=Secret(aws.session_token) if aws.session_token else None,
            region=aws.region,
            expire_time=expire_time,
        )
    if kind == "bearer":
        bearer = message.bearer
        return BearerCredentials(Secret(bearer.access_token), bearer.token_type, expire_time)
    return None
