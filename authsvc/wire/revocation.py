"""Between what is revoked and ``RevokeSessionsRequest``, both ways."""

from __future__ import annotations

from typing import assert_never

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.principals import NANOS, seconds, timestamp


def revocation_message(
    target: RevocationTarget, *, allow_unknown_issuer: bool = False
) -> pb.RevokeSessionsRequest:
    """The request that revokes a target.

    Args:
        target: what is revoked.
        allow_unknown_issuer: whether its issuer may be one that authsvc is not configured with.
    """
    message = pb.RevokeSessionsRequest(allow_unknown_issuer=allow_unknown_issuer)
    match target:
        case SessionTarget(session_id):
            message.session.session_id = session_id
        case SubjectTarget(issuer, subject, before_time):
            message.subject.issuer, message.subject.subject = issuer, subject
            _set_before_time(message, before_time)
        case TokenTarget(issuer, token_id):
            message.token.issuer, message.token.token_id = issuer, token_id
        case ProviderSessionTarget(issuer, sid, subject):
            session = message.provider_session
            session.issuer, session.sid, session.subject = issuer, sid, subject
        case EveryoneTarget(before_time):
            message.everyone.SetInParent()
            _set_before_time(message, before_time)
        case _:
            assert_never(target)
    return message


def target_of(message: pb.RevokeSessionsRequest) -> RevocationTarget:
    """The inverse of ``revocation_message``.

    Raises:
        AuthError: ARGUMENT_INVALID: no target, one of events alone, or ``before_time`` is invalid
            or for a target that has none.
    """
    before_time = _before_time_of(message)
    match message.WhichOneof("target"):
        case "subject":
            return SubjectTarget(message.subject.issuer, message.subject.subject, before_time)
        case "everyone":
            return EveryoneTarget(before_time)
        case "token" if before_time is None:
            return TokenTarget(message.token.issuer, message.token.token_id)
        case "session" if before_time is None:
            return SessionTarget(message.session.session_id)
        case "provider_session" if before_time is None:
            return _provider_session_of(message.provider_session)
        case "token" | "session" | "provider_session":
            detail = "before_time is for a subject, and for everyone"
            raise AuthError(Reason.ARGUMENT_INVALID, detail)
        case _:
            raise AuthError(Reason.ARGUMENT_INVALID, "target is required")


def _provider_session_of(
    message: pb.RevokeSessionsRequest.ProviderSessionTarget,
) -> ProviderSessionTarget:
    if message.digest:
        raise AuthError(Reason.ARGUMENT_INVALID, "provider_session.digest is of events alone")
    return ProviderSessionTarget(message.issuer, message.sid, message.subject)


def _set_before_time(message: pb.RevokeSessionsRequest, before_time: float | None) -> None:
    if before_time is not None:
        message.before_time.CopyFrom(timestamp(before_time))


def _before_time_of(message: pb.RevokeSessionsRequest) -> float | None:
    if not message.HasField("before_time"):
        return None
    if not 0 <= message.before_time.nanos < NANOS:
        raise AuthError(Reason.ARGUMENT_INVALID, "before_time.nanos is out of range")
    return seconds(message.before_time)
