"""Downstream credentials of a principal: issued for it alone, kept in memory only."""

from __future__ import annotations

from typing import Protocol

from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.resolution import Credentials, Principal, Secret


class CredentialBroker(Protocol):
    """Issues downstream credentials to principals."""

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """Credentials for ``principal``, never those of another principal or of authsvc itself.

        Args:
            principal: the principal of ``token``.
            token: the token of the request. It is sent to a token endpoint that exchanges it
                (RFC 8693), and nowhere else.
            resource: the resource that the token was presented at.
            now: seconds since the epoch.
            wanted: which ones.

        Returns:
            None where the broker has no credentials for the principal.

        Raises:
            AuthError: CREDENTIALS_REFUSED or CREDENTIALS_UNAVAILABLE; TOKEN_EXPIRED where the
                credentials expire with the token, and the token is in the leeway after ``exp``.
        """
        ...
