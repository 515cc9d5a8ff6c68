"""The status of authsvc, as pages show it."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.client.admin import AdminClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.service_status import ServiceStatus


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """The status of authsvc, or why there is none.

    Attributes:
        status: None if authsvc could not be asked.
        problem: why; None if it could.
    """

    status: ServiceStatus | None
    problem: Reason | None = None

    @property
    def issuers(self) -> list[str]:
        """The issuers that authsvc is configured with; empty if it could not be asked."""
        return [it.issuer for it in self.status.issuers] if self.status else []


async def ask_service(client: AdminClient, *, count_sessions: bool = False) -> ServiceAnswer:
    """Ask authsvc for its status.

    Args:
        client: for authsvc.
        count_sessions: whether to count the sessions, too.
    """
    try:
        return ServiceAnswer(await client.status(count_sessions=count_sessions))
    except AuthError as error:
        return ServiceAnswer(None, error.reason)
