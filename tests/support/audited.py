"""An audit of calls whose events a test can read."""

from __future__ import annotations

import anyio

from authsvc.audit.calls import CallAudit, CallEvent
from tests.support.bounds import TIMEOUT_SECONDS


class Collected(CallAudit):
    """Keeps the events.

    Attributes:
        events: all of them, in order.
        wanted: whether calls are audited.
    """

    def __init__(self) -> None:
        super().__init__("full")
        self.events: list[CallEvent] = []
        self.wanted = True
        self._recorded = anyio.Event()

    def wants(self) -> bool:
        """See ``CallAudit``, as for the other method."""
        return self.wanted

    def record(self, event: CallEvent) -> None:
        self.events.append(event)
        self._recorded.set()

    def take(self) -> CallEvent:
        """The only event since the last was taken."""
        (event,) = self.events
        self.events.clear()
        return event

    async def next(self) -> CallEvent:
        """As ``take``, once there is one: the answer to a long body comes before its end."""
        if not self.events:
            self._recorded = anyio.Event()
            with anyio.fail_after(TIMEOUT_SECONDS):
                await self._recorded.wait()
        return self.take()

    def endings(self) -> list[tuple[str, str, str]]:
        """Method, outcome and reason of each event."""
        return [(event.method, event.outcome.value, event.reason) for event in self.events]
