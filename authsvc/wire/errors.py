"""Conversion between ``AuthError`` and ``google.rpc.Status`` (ErrorInfo, RetryInfo; AIP-193).

The only place that maps errors to gRPC statuses.
"""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2

from authsvc.domain.errors import DOMAIN, AuthError, GrpcStatus, Reason
from authsvc.domain.resolution import Principal
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.principals import NANOS, principal_message, principal_of

STATUS_DETAILS_KEY = "grpc-status-details-bin"
"""The trailer that carries a google.rpc.Status (gRPC's richer error model)."""

LIMIT = "limit"
"""The member of ErrorInfo.metadata that names the limit of RATE_LIMITED."""

OPERATION, WRITE = "operation", "write"
"""The member of ErrorInfo.metadata that says that a write has failed, and its one value: the store
may still serve requests that write nothing."""

MAX_WHO_BYTES = 1_024
"""Most bytes of whose request a status is about: trailers may have 8 KiB."""

_CODES = {status: code_pb2.Code.Value(status.value) for status in GrpcStatus}


def rpc_status_of(error: AuthError) -> status_pb2.Status:
    """The status that a caller sees: code, public message, reason, and when to retry."""
    about = {LIMIT: error.limit} if error.limit else {}
    if error.of_write:
        about[OPERATION] = WRITE
    details = [error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=about)]
    status = status_pb2.Status(
        code=_CODES[error.reason.status],
        message=error.message,
        details=map(_packed, details),
    )
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_seconds * NANOS))
        status.details.append(_packed(retry))
    if (who := who_of(error.principal)) is not None:
        status.details.append(_packed(_who_message(who)))
    return status


def who_of(principal: Principal | None) -> Principal | None:
    """What an error says of whose request it is: no scopes, no claims. None where that is too long,
    even without the actors."""
    if principal is None:
        return None
    issuer, subject, client_id = principal.issuer, principal.subject, principal.client_id
    for actor in (principal.actor, None):
        who = Principal(issuer, subject, 0.0, client_id=client_id, actor=actor)
        if _who_message(who).ByteSize() <= MAX_WHO_BYTES:
            return who
    return None


def _who_message(who: Principal) -> pb.Principal:
    message = principal_message(who)
    message.ClearField("expire_time")
    message.ClearField("claims_json")
    return message


def error_of(status: status_pb2.Status) -> AuthError | None:
    """The error in a status; None when it is not one of authsvc's."""
    reason: Reason | None = None
    retry_after_seconds: float | None = None
    limit, principal, of_write = "", None, False
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        who = pb.Principal()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = Reason.__members__.get(info.reason)
            limit = info.metadata.get(LIMIT, "")
            of_write = info.metadata.get(OPERATION) == WRITE
        elif detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.ToNanoseconds() / NANOS
        elif detail.Unpack(who):
            principal = who_of(principal_of(who))
    if reason is None:
        return None
    return AuthError(
        reason,
        retry_after_seconds=retry_after_seconds,
        limit=limit,
        principal=principal,
        of_write=of_write,
    )


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | pb.Principal,
) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
