"""A bearer token for a downstream API, in exchange for the client's (RFC 8693).

The client's token is sent to the token endpoint only: that of its own issuer, or one that the
configuration permits to receive that issuer's tokens. The token it returns is issued for the API.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from authsvc.common.oauth_endpoint import EndpointError, OAuthEndpoint
from authsvc.common.oauth_errors import CLIENT_REJECTED
from authsvc.credentials.cache import CacheCounts, CredentialCache
from authsvc.credentials.may_act import check_may_act
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Secret

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no token
JWT = "urn:ietf:params:oauth:token-type:jwt"

TABLE = "credentials.exchange"
"""The table of the configuration that its settings are in."""

DEFAULT_EXPIRES_IN_SECONDS = 300.0
"""``expires_in`` of an answer that has none."""

MAX_SECONDS = 86_400 * 366
"""The longest ``expires_in`` that is accepted; credentials never outlive the client's token."""

_BEARER_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,65536}=*")
"""``b64token`` of RFC 6750 section 2.1: nothing else can be sent in the header."""

_REFUSED = frozenset(
    {
        *("invalid_grant", "invalid_target", "invalid_scope", "invalid_request"),
        *("access_denied", "unauthorized_client"),
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
    "unauthorized_client": f"{TABLE}.client_id",
}
"""What error codes are about, of the configuration."""

_DIGITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """The parameters of a request; those that are empty are omitted.

    Attributes:
        issuers: claim ``iss`` of the tokens that may be sent to the endpoint.
        client_id: authsvc's client at the endpoint; claim ``may_act`` of a token has to name it.
        audience: the API, by its name at the endpoint.
        api: the API, by its URI: parameter ``resource`` (RFC 8707).
        scopes: the scopes to request.
        subject_token_type: the type of the client's token, as a URI.
    """

    issuers: Collection[str]
    client_id: str
    audience: str = ""
    api: str = ""
    scopes: tuple[str, ...] = ()
    subject_token_type: str = ACCESS_TOKEN

    def form(self, token: Secret) -> dict[str, str]:
        """The request (RFC 8693 section 2.1)."""
        parameters = {
            "grant_type": GRANT_TYPE,
            "subject_token": token.reveal(),
            "subject_token_type": self.subject_token_type,
            "requested_token_type": ACCESS_TOKEN,
            "audience": self.audience,
            "resource": self.api,
            "scope": " ".join(self.scopes),
        }
        return {name: value for name, value in parameters.items() if value}


class ExchangeBroker:
    """A ``CredentialBroker``. Belongs to one event loop.

    Args:
        exchange: the parameters of its requests.
        endpoint: the token endpoint.
        counts: where its cache counts its events.
    """

    def __init__(
        self,
        exchange: ExchangeRequest,
        endpoint: OAuthEndpoint,
        counts: CacheCounts | None = None,
    ) -> None:
        self._exchange = exchange
        self._endpoint = endpoint
        self._cache: CredentialCache[BearerCredentials] = CredentialCache(counts)

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``.

        Returns:
            None where the principal's token may not be sent to the endpoint.

        Raises:
            AuthError: CREDENTIALS_REFUSED when the endpoint rejects the request, or claim
                ``may_act`` names another client than authsvc's: then none is made;
                CREDENTIALS_UNAVAILABLE when there is no valid response; TOKEN_EXPIRED in the leeway
                after ``exp``.
        """
        if principal.issuer not in self._exchange.issuers:
            return None
        ends = principal.expire_time
        if ends <= now:
            raise AuthError(Reason.TOKEN_EXPIRED, "credentials end with the token")
        digest = hashlib.sha256(token.reveal().encode()).digest()
        key = (principal.issuer, principal.subject, digest)
        exchanged = partial(self._exchanged, principal, token, now)
        return await self._cache.get(
            key,
            exchanged,
            owner=(principal.issuer, principal.subject),
            ends=ends,
            now=now,
            rejected=wanted.rejected,
        )

    async def close(self) -> None:
        """Cancel the calls in flight."""
        await self._cache.close()

    async def _exchanged(
        self, principal: Principal, token: Secret, now: float
    ) -> BearerCredentials:
        # Here, and not before the cache, so that it is logged and counted as other failures are.
        check_may_act(
            principal, client_id=self._exchange.client_id, setting=_SETTINGS["unauthorized_client"]
        )
        try:
            body = await self._endpoint.post(self._exchange.form(token), now)
        except EndpointError as error:
            raise _failure(error) from None
        issued = read_answer(body, now)
        if issued.access_token == token:
            # A server that got it could act as the client anywhere else.
            raise AuthError(
                Reason.CREDENTIALS_REFUSED,
                "the token endpoint returned the client's own token",
                setting=f"{TABLE}.audience",
            )
        return issued


def read_answer(body: bytes, now: float) -> BearerCredentials:
    """The credentials in a response (RFC 8693 section 2.2.1). Other members are not used.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is no such response, or has no bearer token.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested too deeply
        answer = None
    if not isinstance(answer, dict):
        raise _unavailable("the token endpoint's answer is no JSON object")
    access_token = answer.get("access_token")
    if not isinstance(access_token, str) or not _BEARER_TOKEN.fullmatch(access_token):
        raise _unavailable("the token endpoint's answer has no bearer token")
    if str(answer.get("token_type")).lower() != "bearer":
        raise _unavailable("the token endpoint's answer is of another token_type than Bearer")
    # RFC 8693 requires it; several servers leave it out.
    if answer.get("issued_token_type") not in (None, ACCESS_TOKEN, JWT):
        raise _unavailable("the token endpoint's answer is of another issued_token_type")
    expire_time = now + math.floor(_expires_in(answer.get("expires_in")))
    return BearerCredentials(Secret(access_token), "Bearer", expire_time)


def _expires_in(value: object) -> float:
    """
    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is no positive number, or no sensible one.
    """
    if value is None:
        return DEFAULT_EXPIRES_IN_SECONDS
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_SECONDS:
        raise _unavailable("the token endpoint's answer has no valid expires_in")
    return value


def _failure(error: EndpointError) -> AuthError:
    is_refused = error.status in {400, 403} and error.code not in _UNAVAILABLE
    if is_refused or error.code in _REFUSED:
        return AuthError(
            Reason.CREDENTIALS_REFUSED,
            f"the request was rejected: {error}",
            setting=error.setting or _SETTINGS.get(error.code, ""),
        )
    return AuthError(
        Reason.CREDENTIALS_UNAVAILABLE,
        str(error),
        setting=error.setting,
        retry_after_seconds=error.retry_after_seconds,
    )


def _unavailable(detail: str) -> AuthError:
    return AuthError(Reason.CREDENTIALS_UNAVAILABLE, detail, setting=f"{TABLE}.endpoint")
