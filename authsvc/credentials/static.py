"""Credentials from the configuration."""

from __future__ import annotations

from dataclasses import replace

from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.resolution import AwsCredentials, Credentials, Principal, Secret


class StaticBroker:
    """Issues the same credentials to each principal that it is called for.

    Args:
        credentials: these.
    """

    def __init__(self, credentials: AwsCredentials) -> None:
        self._credentials = credentials

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker.issue``. Their ``expire_time`` is the token's."""
        return replace(self._credentials, expire_time=principal.expire_time)
