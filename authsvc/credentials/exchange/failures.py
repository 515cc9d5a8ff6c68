"""What a token endpoint's error is to a caller: refused, or unavailable. Pure."""

from __future__ import annotations

from authsvc.common.oauth_endpoint import EndpointError
from authsvc.common.oauth_errors import CLIENT_REJECTED
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.failures import Failure

TABLE = "credentials.exchange"
"""The table of the configuration that an exchange's settings are in."""

_REFUSED = frozenset(
    {
        *("invalid_grant", "invalid_target", "invalid_scope", "invalid_request"),
        *("access_denied", "unauthorized_client"),
        # The user has to sign in again, to consent, or to prove more: Entra, OpenID Connect Core
        # section 3.1.2.6, RFC 9470.
        *("interaction_required", "login_required", "consent_required"),
        "insufficient_user_authentication",
    }
)
"""Error codes that are about this token, this API or these scopes, with whichever status."""

_UNAVAILABLE = frozenset(
    {CLIENT_REJECTED, "unsupported_grant_type", "server_error", "temporarily_unavailable"}
)
"""Error codes that are about the configuration or the endpoint."""

_SETTINGS = {
    "invalid_target": f"{TABLE}.audience",
    "invalid_scope": f"{TABLE}.scopes",
}
"""What error codes are about, of the configuration."""


def failure(error: EndpointError, table: str = TABLE) -> AuthError:
    """The error for the caller.

    Args:
        error: of a token endpoint.
        table: the table of the configuration that the endpoint's settings are in.

    Returns:
        CREDENTIALS_REFUSED or CREDENTIALS_UNAVAILABLE.
    """
    is_of_us = error.code in _UNAVAILABLE or error.failure is Failure.OUR_CERTIFICATE
    is_refused = error.status in {400, 403} and not is_of_us
    if is_refused or error.code in _REFUSED:
        settings = {**_SETTINGS, "unauthorized_client": f"{table}.client_id"}
        return refused(
            f"the request was rejected: {error}",
            error.setting or settings.get(error.code, ""),
        )
    return AuthError(
        Reason.CREDENTIALS_UNAVAILABLE,
        str(error),
        setting=error.setting,
        retry_after_seconds=error.retry_after_seconds,
    )


def refused(detail: str, setting: str) -> AuthError:
    """CREDENTIALS_REFUSED."""
    return AuthError(Reason.CREDENTIALS_REFUSED, detail, setting=setting)


def unavailable(detail: str, table: str = TABLE) -> AuthError:
    """CREDENTIALS_UNAVAILABLE, because of an endpoint's answer."""
    return AuthError(Reason.CREDENTIALS_UNAVAILABLE, detail, setting=f"{table}.endpoint")


def own_token() -> AuthError:
    """CREDENTIALS_REFUSED, because an endpoint has returned the client's own token.

    A server that got it could act as the client anywhere else.
    """
    return refused("the token endpoint returned the client's own token", f"{TABLE}.endpoint")
