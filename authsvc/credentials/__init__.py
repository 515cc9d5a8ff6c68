"""Downstream credentials for a principal: issued for it, held in memory alone."""

from __future__ import annotations

from typing import Protocol

from authsvc.resolution import Credentials, Principal


class CredentialBroker(Protocol):
    """Issues what a principal may work with downstream."""

    async def issue(self, principal: Principal, *, now: float) -> Credentials | None:
        """Credentials for ``principal``, never anyone else's and never ambient ones.

        Returns:
            None where the broker has nothing for such a principal.

        Raises:
            AuthError: CREDENTIALS_REFUSED or CREDENTIALS_UNAVAILABLE.
        """
        ...
