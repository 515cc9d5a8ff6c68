"""Downstream credentials for a principal: issued for it, held in memory alone."""

from __future__ import annotations

from typing import Protocol

from authsvc.domain.resolution import Credentials, Principal, Secret


class CredentialBroker(Protocol):
    """Issues what a principal may work with downstream."""

    async def issue(
        self, principal: Principal, *, token: Secret, resource: str, now: float
    ) -> Credentials | None:
        """Credentials for ``principal``, never anyone else's and never ambient ones.

        Args:
            principal: who asks, by ``token``.
            token: the token of the request. For a token endpoint that exchanges it (RFC 8693), and
                for nobody else.
            resource: the resource that the token was presented at.
            now: seconds since the epoch.

        Returns:
            None where the broker has nothing for such a principal.

        Raises:
            AuthError: CREDENTIALS_REFUSED or CREDENTIALS_UNAVAILABLE; TOKEN_EXPIRED where what is
                issued ends with the token, and the token is in the leeway after its end.
        """
        ...
