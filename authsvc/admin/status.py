"""The status of this process: its version, its store, its issuers, and counts of sessions."""

from __future__ import annotations

from collections.abc import Callable

from authsvc import __version__
from authsvc.domain.service_status import IssuerStatus, ServiceStatus
from authsvc.stores import SessionStore


class StatusReport:
    """Reports the status.

    Args:
        store: keeps the sessions.
        issuers: the status of the issuers at a time.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: SessionStore,
        issuers: Callable[[float], tuple[IssuerStatus, ...]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._issuers = issuers
        self._clock = clock
        self._start_time = clock()

    async def read(self, *, count_sessions: bool = False) -> ServiceStatus:
        """The status, now.

        Args:
            count_sessions: whether sessions are counted.

        Raises:
            AuthError: STORE_UNAVAILABLE, where sessions are counted.
        """
        counts = await self._store.count(self._clock()) if count_sessions else None
        now = self._clock()
        return ServiceStatus(
            version=__version__,
            start_time=self._start_time,
            time=now,
            store_ready=self._store.ready,
            issuers=self._issuers(now),
            sessions=counts,
        )
