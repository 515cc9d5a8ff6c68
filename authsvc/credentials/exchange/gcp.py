"""Profile ``gcp-sts``: workload identity federation of Google Cloud.

The Security Token Service issues a token for the principal that a provider of the pool maps the
client's token to. With a service account, that token is exchanged for one of the account.

Source: "Method: token" of the Security Token Service API v1, "Method:
projects.serviceAccounts.generateAccessToken" of the IAM Service Account Credentials API v1, and
``google.oauth2.sts`` of google-auth for the form of requests (the reference shows JSON).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from authsvc.common.oauth_endpoint import retry_after
from authsvc.common.oauth_errors import described, error_code
from authsvc.credentials.exchange.answers import MAX_SECONDS, read_object, read_token
from authsvc.credentials.exchange.failures import TABLE, own_token, refused, unavailable
from authsvc.credentials.exchange.profile import Exchanged
from authsvc.credentials.exchange.rfc8693 import TokenExchange
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Principal, Secret
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.net.urls import shown_url

IAM_SCOPE = "https://www.googleapis.com/auth/iam"
"""The scope of a federated token that is for impersonation alone."""

MAX_LIFETIME_SECONDS = 3_600
"""The longest ``lifetime`` that a project allows without a policy of its own."""

_EXPIRE_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)
"""A Timestamp in JSON, as the API writes it: UTC, up to nine digits of a second."""


class ServiceAccount:
    """Issues tokens of a service account to principals that may impersonate it.

    Args:
        name: its e-mail address or unique id.
        endpoint: the IAM Service Account Credentials API, without a path.
        fetcher: sends the requests.
        scopes: of the tokens.
    """

    def __init__(self, name: str, endpoint: str, fetcher: Fetcher, scopes: tuple[str, ...]) -> None:
        account = f"v1/projects/-/serviceAccounts/{name}:generateAccessToken"
        self._url = f"{endpoint.rstrip('/')}/{account}"
        self._fetcher = fetcher
        self._scopes = scopes

    async def token(self, federated: Secret, ends: float, now: float) -> BearerCredentials:
        """A token of the account.

        Args:
            federated: the token that proves who asks.
            ends: when the client's token expires. Nothing ends an issued token before its time, so
                that it is requested for no longer.
            now: seconds since the epoch.

        Raises:
            AuthError: see ``Profile.exchanged``.
        """
        seconds = max(1, min(MAX_LIFETIME_SECONDS, math.floor(ends - now)))
        document = json.dumps({"scope": self._scopes, "lifetime": f"{seconds}s"}).encode()
        headers = {"Authorization": f"Bearer {federated.reveal()}"}
        try:
            body, _ = await self._fetcher.post_json(self._url, document, headers)
        except FetchError as error:
            raise self._failure(error, federated, now) from None
        answer = read_object(body, TABLE)
        token = read_token(answer.get("accessToken"), TABLE)
        return BearerCredentials(token, "Bearer", _expire_time(answer.get("expireTime"), now))

    def _failure(self, error: FetchError, federated: Secret, now: float) -> AuthError:
        if error.status is None:
            setting = f"{TABLE}.{error.setting}" if error.setting else ""
            return AuthError(Reason.CREDENTIALS_UNAVAILABLE, str(error), setting=setting)
        code = _status(error.body, federated)
        detail = f"{shown_url(self._url)}: answered {described(error.status, code)}"
        setting = f"{TABLE}.service_account"
        if error.status in {400, 403}:
            return refused(f"the request was rejected: {detail}", setting)
        return AuthError(
            Reason.CREDENTIALS_UNAVAILABLE,
            detail,
            setting=setting if error.status == 404 else "",
            retry_after_seconds=retry_after(error.retry_after, now),
        )


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """A ``Profile``.

    Attributes:
        exchange: at the Security Token Service.
        service_account: whose token is issued; None for one of the principal itself.
    """

    exchange: TokenExchange
    service_account: ServiceAccount | None = None

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        """See ``Profile.exchanged``."""
        federated = await self.exchange.exchanged(principal, token, now)
        if self.service_account is None:
            return federated
        proof = federated.credentials.access_token
        if proof == token:
            raise own_token()
        issued = await self.service_account.token(proof, principal.expire_time, now)
        return Exchanged(issued, (proof,))


def _status(body: bytes, federated: Secret) -> str:
    """``error.status`` of an error of Google's APIs, such as ``PERMISSION_DENIED``; empty where it
    has none. The message is not read: it may repeat the request."""
    try:
        answer = json.loads(body)
        status = answer["error"]["status"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return error_code(json.dumps({"error": status}).encode(), [federated.reveal()])


def _expire_time(value: object, now: float) -> float:
    """
    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it is no time to come, or no sensible one.
    """
    found = _EXPIRE_TIME.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        try:
            until = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
        except ValueError:
            until = 0.0
        if now < until < now + MAX_SECONDS:
            return until
    raise unavailable("the answer of generateAccessToken has no valid expireTime")
