"""Several brokers at once: each for the resources that it was configured for."""

from __future__ import annotations

from collections.abc import Mapping

from authsvc.credentials import CredentialBroker
from authsvc.domain.resolution import Credentials, Principal, Secret


class CredentialRouter:
    """Asks the one broker that a resource has. A refusal of it is final: no other one is tried.

    Args:
        named: brokers by resource.
        otherwise: for resources that are not among those; None where they have no credentials.
    """

    def __init__(
        self, named: Mapping[str, CredentialBroker], otherwise: CredentialBroker | None
    ) -> None:
        self._named = dict(named)
        self._otherwise = otherwise

    async def issue(
        self, principal: Principal, *, token: Secret, resource: str, now: float
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``."""
        broker = self._named.get(resource, self._otherwise)
        if broker is None:
            return None
        return await broker.issue(principal, token=token, resource=resource, now=now)
