"""Credentials from the configuration: one set for each role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.resolution import AwsCredentials, Credentials, Principal, Secret


class StaticBroker:
    """Issues the credentials of the first configured role that a principal has.

    Args:
        by_role: credentials by role, in order of preference.
    """

    def __init__(self, by_role: Mapping[str, AwsCredentials]) -> None:
        self._by_role = dict(by_role)

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
        for role, credentials in self._by_role.items():
            if role in principal.roles:
                return replace(credentials, expire_time=principal.expire_time)
        return None
