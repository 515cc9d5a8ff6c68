"""The HTTP status of each error of authsvc, and the headers that clients act on."""

from __future__ import annotations

import math
from http import HTTPStatus

from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.net.bearer import Challenge

_STATUSES = {
    GrpcStatus.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    GrpcStatus.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    # A session that the client did not name cannot be missing: a principal session that was revoked
    # means that the token no longer counts.
    GrpcStatus.NOT_FOUND: HTTPStatus.UNAUTHORIZED,
    GrpcStatus.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    GrpcStatus.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    GrpcStatus.ABORTED: HTTPStatus.SERVICE_UNAVAILABLE,
    GrpcStatus.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


UNAUTHENTICATED = "This request needs an access token."
LACKS_SCOPE = "The token lacks a scope that this request needs."

INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
"""The reason of what authsvc leaves to those who ask it, and which it does not have itself."""


def http_status(reason: Reason, *, in_session: bool) -> HTTPStatus:
    """The status that answers an error.

    Args:
        reason: of the error.
        in_session: whether the client named a session. All sessions that are not its own are
            answered 404: that does not tell whether one exists.
    """
    if reason is Reason.SESSION_SUBJECT_MISMATCH:
        return HTTPStatus.NOT_FOUND
    if in_session and (
        reason.status is GrpcStatus.NOT_FOUND or reason is Reason.SESSION_ID_INVALID
    ):
        return HTTPStatus.NOT_FOUND
    return _STATUSES[reason.status]


def challenge_of(
    reason: Reason, status: HTTPStatus, scopes: tuple[str, ...] = ()
) -> Challenge | None:
    """The challenge of an answer with ``http_status`` (RFC 6750 section 3.1); None where no other
    token would help."""
    if status is HTTPStatus.UNAUTHORIZED:
        return Challenge(scopes, "invalid_token", reason.message)
    if reason is Reason.TOKEN_TOO_LARGE:
        return Challenge(scopes, "invalid_request", reason.message)
    return None


def retry_headers(error: AuthError, status: HTTPStatus) -> dict[str, str]:
    """``Retry-After`` (RFC 9110 section 10.2.3) of an answer to what may succeed later."""
    if status not in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds or 1)))}
