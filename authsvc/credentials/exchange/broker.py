"""The broker: whose tokens are exchanged, what is cached, and what is never issued."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import partial

from authsvc.credentials.cache import CacheCounts, CredentialCache
from authsvc.credentials.exchange.failures import TABLE, own_token, refused
from authsvc.credentials.exchange.profile import Profile
from authsvc.credentials.may_act import check_may_act
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Secret


class ExchangeBroker:
    """A ``CredentialBroker``. Belongs to one event loop.

    Args:
        profile: how tokens are exchanged.
        issuers: claim ``iss`` of the tokens that may be sent.
        client_id: authsvc's client at the endpoint; claim ``may_act`` of a token has to name it.
        counts: where its cache counts its events.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        issuers: Collection[str],
        client_id: str,
        counts: CacheCounts | None = None,
    ) -> None:
        self._profile = profile
        self._issuers = issuers
        self._client_id = client_id
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
        if principal.issuer not in self._issuers:
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
        # Here, and not before the cache, so that it is counted as other failures are.
        check_may_act(principal, client_id=self._client_id, setting=f"{TABLE}.client_id")
        credentials, sent = await self._profile.exchanged(principal, token, now)
        if credentials.access_token == token:
            raise own_token()
        if credentials.access_token in sent:
            # As one of these, it could have the endpoint issue tokens to itself.
            raise refused(
                "the token endpoint returned a token that was sent to it", f"{TABLE}.endpoint"
            )
        return credentials
