"""A broker that says whom it has issued to, and counts what it is asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import pytest

from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Secret


class NamedBroker:
    """Issues to each subject and name a token that says so, except to ``none`` and ``refused``.

    Attributes:
        asked: how often, by name.
        errors: why it issues none, by name.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.errors = {"refused": Reason.CREDENTIALS_REFUSED}

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        self.asked[wanted.name] += 1
        await asyncio.sleep(0)
        if wanted.name == "none":
            return None
        if wanted.name in self.errors:
            raise AuthError(self.errors[wanted.name], "for the log alone")
        text = "/".join((wanted.name, principal.subject, *wanted.buckets))
        return BearerCredentials(Secret(text), "Bearer", principal.expire_time)

    def taken(self) -> dict[str, int]:
        """How often it was asked since the last time, by name."""
        asked, self.asked = self.asked, Counter()
        return dict(asked)

    @classmethod
    def of_services(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        """One in place of those that a service of this test has configured."""
        made = cls()

        @asynccontextmanager
        async def opened(*_: object) -> AsyncIterator[Self]:
            yield made

        monkeypatch.setattr("authsvc.server.assembly._broker", opened)
        return made
