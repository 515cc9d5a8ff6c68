"""The credentials of one request: those of the resource, or each of those that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from authsvc.credentials import CredentialBroker
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Credentials, Principal, Secret
from authsvc.resolver import log_lines

OTHERS_WAIT_SECONDS = 1.5
"""How long credentials wait for others that the same request asks for. Less than clients wait for a
response by default, 2 seconds: an endpoint that hangs would otherwise take all names from them."""


@dataclass(frozen=True, slots=True)
class Issuing:
    """Asks the broker for one request.

    Attributes:
        broker: issues.
        principal: of the request's token.
        token: the request's own.
        resource: that it was presented at.
        now: seconds since the epoch.
    """

    broker: CredentialBroker
    principal: Principal
    token: Secret
    resource: str
    now: float

    async def issue(self, wanted: CredentialRequest) -> Credentials | None:
        """Credentials; None where the principal has none.

        Raises:
            AuthError: of the broker; it is logged.
        """
        try:
            return await self.broker.issue(
                self.principal,
                token=self.token,
                resource=self.resource,
                now=self.now,
                wanted=wanted,
            )
        except AuthError as error:
            log_lines.not_issued(wanted.name, error, self.principal, self.resource)
            raise

    async def issue_all(
        self, selection: Sequence[CredentialRequest]
    ) -> Mapping[str, Credentials | AuthError]:
        """Credentials by name, or why they are not issued; all at once, in the selection's order.

        An error of one says nothing about another, and of several none waits for one that takes
        longer than ``OTHERS_WAIT_SECONDS``. Names for which the principal has none are missing.

        Args:
            selection: ``MAX_REQUESTS`` at most, each name once.

        Raises:
            Exception: a broker failed unexpectedly; those that have not issued yet are cancelled.
        """
        if len(selection) == 1:
            results = [await self._result(selection[0])]
        else:
            asked = [asyncio.ensure_future(self._in_time(wanted)) for wanted in selection]
            try:
                results = await asyncio.gather(*asked)
            finally:
                for task in asked:
                    task.cancel()
        by_name = zip(selection, results, strict=True)
        return {wanted.name: result for wanted, result in by_name if result is not None}

    async def _in_time(self, wanted: CredentialRequest) -> Credentials | AuthError | None:
        """One of several. A broker goes on with a call that is not waited for, and caches what it
        gets: the next request may have it."""
        try:
            async with asyncio.timeout(OTHERS_WAIT_SECONDS) as waiting:
                return await self._result(wanted)
        except TimeoutError:
            if not waiting.expired():
                raise
            error = AuthError(
                Reason.CREDENTIALS_UNAVAILABLE,
                f"not issued in {OTHERS_WAIT_SECONDS:g} seconds, and asked for with others",
                retry_after_seconds=1.0,
            )
            log_lines.not_issued(wanted.name, error, self.principal, self.resource)
            return error

    async def _result(self, wanted: CredentialRequest) -> Credentials | AuthError | None:
        try:
            return await self.issue(wanted)
        except AuthError as error:
            return error.raisable()
