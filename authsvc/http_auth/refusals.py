"""Error responses: one exception, and the answer that each error of authsvc becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, RequestId

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Resolution
from authsvc.http_auth.statuses import (
    INSUFFICIENT_SCOPE,
    LACKS_SCOPE,
    UNAUTHENTICATED,
    challenge_of,
    http_status,
    retry_headers,
)
from authsvc.http_auth.throttling import Pace
from authsvc.net.bearer import Challenge


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response.

    Attributes:
        status: the HTTP status.
        headers: all but Content-Length.
        body: empty for none.
    """

    status: HTTPStatus
    headers: dict[str, str]
    body: bytes = b""


_RENAMED = {
    413: "CONTENT_TOO_LARGE",
    414: "URI_TOO_LONG",
    416: "RANGE_NOT_SATISFIABLE",
    422: "UNPROCESSABLE_CONTENT",
}
"""Names of RFC 9110 (section 15.5), which Python has since 3.13: a status has one name on each."""


class Refusal(Exception):  # noqa: N818 - an answer to give, not something that broke
    """A request is not served.

    Attributes:
        status: the HTTP status.
        code: the JSON-RPC error code. Where the protocol defines none it is the HTTP status: codes
            of its own belong outside the range that JSON-RPC reserves (MCP "Error Codes").
        message: for the end user.
        reason: why, for programs; a name of ``authsvc.domain.errors.Reason`` where authsvc rejected
            it.
        cause: why, for logs and the audit alone: the reason, or the name of the status without one;
            of a session, whether it was revoked, has expired or is another subject's.
        data: what else is for programs.
        challenge: what to ask for; None where no token would help.
        headers: further headers.
        pace: delays the answer to a request that costs its sender almost nothing; None to answer
            at once.
        resolution: who asked, for a gateway's log; None where that is not known.
        setting: for the log alone: the argument of ``SessionGate``, and the setting of the adapter,
            that would mend it; empty where none would.
    """

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        code: int | None = None,
        reason: str = "",
        data: Mapping[str, Any] | None = None,
        challenge: Challenge | None = None,
        headers: dict[str, str] | None = None,
        pace: Pace | None = None,
        resolution: Resolution | None = None,
        setting: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = status.value if code is None else code
        self.message = message
        self.reason = reason
        self.cause = reason or _RENAMED.get(status.value, status.name)
        self.data = {**(data or {}), **({"reason": reason} if reason else {})}
        self.challenge = challenge
        self.headers = headers or {}
        self.pace = pace
        self.resolution = resolution
        self.setting = setting

    @property
    def leaves_body_unread(self) -> bool:
        """Whether the connection ends because some of the request's body is still to come."""
        return self.headers.get("Connection") == "close"

    def drop_frames(self) -> None:
        """Drop the traceback, whose frames hold the request's body: the answer may take
        seconds."""
        self.__traceback__ = self.__context__ = None

    def message_for(self, request_id: RequestId | None) -> dict[str, Any]:
        """The JSON-RPC error that answers a request; see ``answer``."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data:
            error["data"] = self.data
        return {"jsonrpc": "2.0", "id": request_id, "error": error}

    def answer(self, request_id: RequestId | None, *, resource_metadata: str) -> Answer:
        """The answer: a JSON-RPC error object that may not be cached.

        Args:
            request_id: of the request that is refused; None when it is not known.
            resource_metadata: URL of the protected resource's metadata, for the challenge.
        """
        headers = {"Cache-Control": "no-store", **self.headers}
        if self.challenge is not None:
            headers["WWW-Authenticate"] = self.challenge.header(resource_metadata)
        headers["Content-Type"] = "application/json"
        body = json.dumps(self.message_for(request_id)).encode()
        return Answer(self.status, headers, body)


def bad_request(message: str, *, code: int = INVALID_REQUEST) -> Refusal:
    """400: the client has to send something else."""
    return Refusal(HTTPStatus.BAD_REQUEST, message, code=code)


def ambiguous_credentials() -> Refusal:
    """400 for several Authorization headers (RFC 6750 section 3.1)."""
    message = "There is more than one Authorization header."
    return Refusal(
        HTTPStatus.BAD_REQUEST,
        message,
        code=INVALID_REQUEST,
        challenge=Challenge(error="invalid_request", description=message),
    )


def unauthenticated(scopes: tuple[str, ...]) -> Refusal:
    """401 for a request that presented no token: a challenge without an error."""
    return Refusal(HTTPStatus.UNAUTHORIZED, UNAUTHENTICATED, challenge=Challenge(scopes))


def anonymous_body(max_bytes: int, pace: Pace, *, token_helps: bool, setting: str = "") -> Refusal:
    """For a body that is not read unless a valid token comes with it: 401 where one would help, and
    413 where not. The rest of it stays unread, so the connection cannot be used again.

    Args:
        max_bytes: how long it may be.
        pace: what the refusal waits for.
        token_helps: whether a token would change that.
        setting: the one that would.
    """
    return Refusal(
        HTTPStatus.UNAUTHORIZED if token_helps else HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"Without a valid token{'' if token_helps else ' and a session'} a body holds at most "
        f"{max_bytes} bytes and few values.",
        challenge=Challenge() if token_helps else None,
        headers={"Connection": "close"},
        pace=pace,
        setting=setting,
    )


def no_metadata() -> Refusal:
    """404 where a client looks for the metadata of a resource, and there is none. Public, as the
    metadata are."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "There is no metadata of this resource.",
        headers={"Access-Control-Allow-Origin": "*"},
    )


def insufficient_scope(scopes: tuple[str, ...], resolution: Resolution) -> Refusal:
    """403 for a token that lacks one of the ``scopes`` that the request needs."""
    return Refusal(
        HTTPStatus.FORBIDDEN,
        LACKS_SCOPE,
        reason=INSUFFICIENT_SCOPE,
        challenge=Challenge(scopes, "insufficient_scope", LACKS_SCOPE),
        resolution=resolution,
    )


def internal_error() -> Refusal:
    """500. The cause is in the log alone."""
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.", code=INTERNAL_ERROR)


def service_unavailable() -> Refusal:
    """503: authsvc is unavailable, or did not answer in time."""
    return refusal_of(AuthError(Reason.SERVICE_UNAVAILABLE), in_session=False, scopes=())


def refusal_of(error: AuthError, *, in_session: bool, scopes: tuple[str, ...]) -> Refusal:
    """What an error of authsvc becomes.

    Args:
        error: what the resolver raised.
        in_session: whether the client named a session. One that it did not name cannot be missing:
            a principal session that was revoked means that the token no longer counts.
        scopes: what the request needs, for the challenge.
    """
    reason = error.reason
    status = http_status(reason, in_session=in_session)
    if status is HTTPStatus.NOT_FOUND:
        return _session_not_found(reason)
    if reason is Reason.RATE_LIMITED:
        return _rate_limited(error, status)
    challenge = challenge_of(reason, status, scopes)
    refusal = _plain(status, reason, challenge=challenge, headers=retry_headers(error, status))
    refusal.resolution = _who(error)
    return refusal


def _who(error: AuthError) -> Resolution | None:
    """Who asked, where the error says so."""
    return None if error.principal is None else Resolution(principal=error.principal)


def _session_not_found(cause: Reason) -> Refusal:
    """The same answer for every session that is not the caller's: it does not tell whether one
    exists."""
    refusal = _plain(HTTPStatus.NOT_FOUND, Reason.SESSION_NOT_FOUND)
    refusal.cause = cause.name
    return refusal


def _plain(
    status: HTTPStatus,
    reason: Reason,
    *,
    challenge: Challenge | None = None,
    headers: dict[str, str] | None = None,
) -> Refusal:
    return Refusal(status, reason.message, reason=reason.name, challenge=challenge, headers=headers)


def _rate_limited(error: AuthError, status: HTTPStatus) -> Refusal:
    """The answer that names the limit that is reached."""
    return Refusal(
        status,
        error.message,
        reason=error.reason.name,
        data={"limit": error.limit} if error.limit else None,
        headers=retry_headers(error, status),
        resolution=_who(error),
    )
