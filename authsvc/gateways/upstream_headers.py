"""Which headers the upstream of an allowed request gets, and which the client does."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping

from authsvc.domain.resolution import AwsCredentials, Credentials
from authsvc.gateways.check_requests import CheckedRequest
from authsvc.gateways.check_responses import Changes
from authsvc.http_auth import forwarding
from authsvc.http_auth.authorizer import Admitted
from authsvc.http_auth.headers import SESSION_ID

ASSERTION = "x-authsvc-assertion"
CREDENTIALS = "x-authsvc-credentials"

_JSON = "application/json"

_OF_THE_BODY = frozenset({b"content-type", b"content-length", b"transfer-encoding"})
"""Headers that describe the body: the gateway passes on the one that it has read."""


def changes(
    request: CheckedRequest,
    admitted: Admitted,
    *,
    assertion: str,
    credentials: Credentials | None,
    mints: bool,
) -> Changes:
    """How the gateway changes a request.

    A header of authsvc's that is not set is removed, whether or not the client sent it.

    Args:
        request: the request.
        admitted: what was decided.
        assertion: for the upstream; empty for none.
        credentials: for the upstream; None for none.
        mints: whether authsvc mints the ids of sessions.
    """
    headers: dict[str, str] = {}
    if assertion:
        headers[ASSERTION] = assertion
    if credentials is not None:
        headers[CREDENTIALS] = encoded_credentials(credentials)
    if admitted.request.session_id and not admitted.opens_session:
        headers[SESSION_ID] = admitted.request.session_id
    if request.method == "POST" and request.headers.get("content-type") != _JSON:
        headers["content-type"] = _JSON
    removed = {ASSERTION, CREDENTIALS, *_dropped(request, admitted.request.version)}
    session = admitted.resolution.session
    is_minted = mints and admitted.opens_session and session is not None
    response = {SESSION_ID: session.id} if is_minted and session is not None else {}
    return Changes(headers, sorted(removed - headers.keys()), response)


def _dropped(request: CheckedRequest, version: str) -> Iterator[str]:
    """Names of the client's headers that the upstream does not get."""
    kept = forwarding.forwarded(request.headers, method=request.method, version=version)
    for name in {*request.headers.names} - {name for name, _ in kept} - _OF_THE_BODY:
        yield name.decode("latin-1")


def encoded_credentials(credentials: Credentials) -> str:
    """Credentials as the value of a header: JSON in base64url, without padding. Secret."""
    return base64.urlsafe_b64encode(json.dumps(_members(credentials)).encode()).decode().rstrip("=")


def _members(credentials: Credentials) -> Mapping[str, str | float]:
    if isinstance(credentials, AwsCredentials):
        token = credentials.session_token
        return {
            "type": "aws",
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key.reveal(),
            "session_token": token.reveal() if token else "",
            "region": credentials.region,
            "expire_time": credentials.expire_time,
        }
    return {
        "type": "bearer",
        "access_token": credentials.access_token.reveal(),
        "token_type": credentials.token_type,
        "expire_time": credentials.expire_time,
    }
