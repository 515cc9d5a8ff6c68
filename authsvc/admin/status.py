"""The status of this process: its version, its store, its issuers, and counts of sessions."""

from __future__ import annotations

from collections.abc import Callable

from authsvc import __version__
from authsvc.domain.events import RecordFilter, revoked_since
from authsvc.domain.service_status import IssuerStatus, ServiceStatus, SessionCounts
from authsvc.stores import SessionStore

COUNT_PAGE_SIZE = 10_000
"""Sessions that are counted at most, the newest first."""


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
            count_sessions: whether sessions are counted: the newest ``COUNT_PAGE_SIZE``.

        Raises:
            AuthError: STORE_UNAVAILABLE, where sessions are counted.
        """
        counts = await self._counted() if count_sessions else None
        now = self._clock()
        return ServiceStatus(
            version=__version__,
            start_time=self._start_time,
            time=now,
            store_ready=self._store.ready,
            issuers=self._issuers(now),
            sessions=counts,
        )

    async def _counted(self) -> SessionCounts:
        page = await self._store.page(RecordFilter(), size=COUNT_PAGE_SIZE)
        now = self._clock()
        present = [record for record in page.records if now < record.expire_time]
        live = [record for record in present if revoked_since(record) is None]
        authenticated = sum(record.authenticated for record in live)
        return SessionCounts(
            unauthenticated=len(live) - authenticated,
            authenticated=authenticated,
            revoked=len(present) - len(live),
            truncated=bool(page.next),
        )
