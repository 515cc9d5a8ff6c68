"""Several brokers: each issues for the resources that it is configured for."""

from __future__ import annotations

from collections.abc import Mapping

from authsvc.credentials import CredentialBroker
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.resolution import Credentials, Principal, Secret


class CredentialRouter:
    """Calls the one broker of a resource. If it rejects a principal, no other broker is tried.

    Args:
        by_resource: brokers by resource.
        default: for all other resources; None where they have no credentials.
    """

    def __init__(
        self, by_resource: Mapping[str, CredentialBroker], default: CredentialBroker | None
    ) -> None:
        self._by_resource = dict(by_resource)
        self._default = default

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``."""
        broker = self._by_resource.get(resource, self._default)
        if broker is None:
            return None
        return await broker.issue(principal, token=token, resource=resource, now=now, wanted=wanted)
