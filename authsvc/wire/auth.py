"""Conversion between the values of ``domain.resolution`` and the messages of ``auth.proto``."""

from __future__ import annotations

from collections.abc import Iterable

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import MAX_COUNTED, CallCounts, Rate, RateLimit, RatePer
from authsvc.domain.resolution import Outcome, Resolution, Session, SessionState
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.credentials import credentials_message, credentials_of, named_messages, named_of
from authsvc.wire.principals import principal_message, principal_of, seconds, timestamp

CONSISTENCY_TOKEN_KEY = "authsvc-consistency-token"  # noqa: S105 - a name
"""The trailer that carries the consistency token of ``RevokeSession``."""

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


def session_message(session: Session) -> pb.Session:
    """A session for the wire."""
    return pb.Session(
        id=session.id,
        state=pb.SessionState.ValueType(session.state.value),
        revision=session.revision,
        create_time=timestamp(session.create_time),
        expire_time=timestamp(session.expire_time),
    )


def response_message(resolution: Resolution) -> pb.ResolveSessionResponse:
    """The response of ``ResolveSession``."""
    message = pb.ResolveSessionResponse(
        consistency_token=resolution.consistency_token,
        named_credentials=named_messages(resolution.named_credentials),
    )
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
        named_credentials=message.named_credentials,
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
        credentials=credentials_of(message.credentials)
        if message.HasField("credentials")
        else None,
        consistency_token=message.consistency_token,
        named_credentials=named_of(message.named_credentials),
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
