"""What operators may do: list, revoke and watch sessions, and read the status of the service.

Decides; knows no transport and no store by name. Raises ``AuthError`` alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from authsvc.admin.listing import SessionListing
from authsvc.admin.revocations import EndSession, Revocations
from authsvc.admin.status import StatusReport
from authsvc.admin.watches import SessionWatches
from authsvc.domain.service_status import IssuerStatus
from authsvc.stores import SessionStore


class SessionAdmin:
    """``SessionAdminService``, without its transport.

    Args:
        store: keeps sessions, not-before times and the log.
        end_session: ends one session.
        issuers: the status of the issuers at a time.
        stopping: set when the server stops: it ends the watches, which would never end.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        end_session: EndSession,
        issuers: Callable[[float], tuple[IssuerStatus, ...]],
        stopping: asyncio.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sessions = SessionListing(store, clock)
        self.revocations = Revocations(store, end_session=end_session, issuers=issuers, clock=clock)
        self.watches = SessionWatches(store, stopping)
        self.status = StatusReport(store, issuers, clock)
