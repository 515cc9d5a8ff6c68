"""What operators may do: list, revoke and watch sessions, read the status of the service and of its
streams of signals.

Decides; knows no transport and no store by name. Raises ``AuthError`` alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from authsvc.admin.listing import SessionListing
from authsvc.admin.revocations import EndSession, Revocations
from authsvc.admin.status import StatusReport
from authsvc.admin.watches import SessionWatches
from authsvc.audit.admin_actions import AdminActions
from authsvc.domain.service_status import IssuerStatus
from authsvc.domain.signal_status import StreamStatus
from authsvc.stores import SessionStore

SignalStreams = Callable[[], Awaitable[tuple[StreamStatus, ...]]]
"""Returns the status of all streams of signals. Raises ``AuthError``: STORE_UNAVAILABLE."""


async def no_streams() -> tuple[StreamStatus, ...]:
    """For a service that receives no signals."""
    return ()


class SessionAdmin:
    """``SessionAdminService``, without its transport.

    Args:
        store: keeps sessions, not-before times and the log.
        end_session: ends one session.
        issuers: the status of the issuers at a time.
        stopping: set when the server stops: it ends the watches, which would never end.
        signal_streams: the status of the streams of signals.
        clock: seconds since the epoch.
        monotonic: seconds of any origin.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        end_session: EndSession,
        issuers: Callable[[float], tuple[IssuerStatus, ...]],
        stopping: asyncio.Event,
        signal_streams: SignalStreams = no_streams,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.actions = AdminActions(monotonic)
        """Audits what operators do."""
        self.sessions = SessionListing(store, clock)
        self.revocations = Revocations(store, end_session=end_session, issuers=issuers, clock=clock)
        self.watches = SessionWatches(store, stopping)
        self.status = StatusReport(store, issuers, clock)
        self.signal_streams = signal_streams
