"""The events of authsvc, from one watch of all sessions: the latest ones, and counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from authsvc.client import AdminClient
from authsvc.client.retries import WATCH_BACKOFF_SECONDS, RetryPolicy
from authsvc.common.newest import Newest
from authsvc.console.event_counts import EventCounts
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EVENT_BYTES, SessionEvent
from authsvc.domain.provider_session import NO_PROVIDER_SESSION
from authsvc.domain.record import Record

log = logging.getLogger(__name__)

RETRIES = RetryPolicy(0.5, max_backoff_seconds=WATCH_BACKOFF_SECONDS)
"""How long to wait after a watch that could not begin, before the next one."""


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event with the time that pages show.

    Attributes:
        time: the event's, in seconds since the epoch; the time of its arrival if that is earlier.
            A session that is removed because of the cap expires before its ``expire_time``.
        event: the event.
    """

    time: float
    event: SessionEvent


class Feed:
    """The latest events of all sessions.

    Args:
        client: for authsvc.
        events_kept: how many events are kept, of ``EVENT_BYTES`` each on average.
        clock: seconds since the epoch.
    """

    def __init__(
        self, client: AdminClient, *, events_kept: int, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._clock = clock
        self._events: Newest[TimedEvent] = Newest(events_kept, events_kept * EVENT_BYTES)
        self._resume_token = ""
        self._failed = 0
        self.counts = EventCounts()
        self.since: float | None = None
        """Since when no event is missing; None before the first watch."""
        self.problem: Reason | None = None
        """Why events are not watched at present; None while they are."""

    async def run(self) -> None:
        """Watch until cancelled. A watch that ends is begun again."""
        while True:
            try:
                await self._watch()
            except AuthError as error:
                if error.reason is not self.problem:
                    log.warning("events cannot be watched: %s", error)
                self.problem = error.reason
                if error.reason is Reason.ARGUMENT_INVALID:
                    self._resume_token = ""  # the store was replaced: watch from now on
            self._failed += 1
            await asyncio.sleep(RETRIES.backoff_seconds(self._failed))

    def latest(self) -> Iterator[TimedEvent]:
        """All events, the newest first."""
        return reversed(self._events)

    def about(self, record: Record) -> list[TimedEvent]:
        """The events of a session, and not-befores that may apply to it; the newest first."""
        return [it for it in self.latest() if _concerns(it.event, record)]

    def recent(self, count: int) -> list[TimedEvent]:
        """The newest events, ``count`` at most."""
        return list(islice(self.latest(), count))

    @property
    def has_dropped(self) -> bool:
        """Whether older events were dropped, to bound the memory."""
        return self._events.dropped > 0

    async def _watch(self) -> None:
        async with self._client.watching(resume_token=self._resume_token) as events:
            if not self._resume_token:
                self.since = self._clock()
            self.problem = None
            async for watched in events:
                self._failed = 0
                self._resume_token = watched.resume_token
                self._add(watched.event)

    def _add(self, event: SessionEvent) -> None:
        now = self._clock()
        timed = TimedEvent(min(event.time, now), event)
        self._events.append(timed, event.memory_bytes())
        self.counts.add(event.type, timed.time, now)


def _concerns(event: SessionEvent, record: Record) -> bool:
    if event.record is not None:
        return event.record.id == record.id
    not_before = event.not_before
    if not_before is None or not record.authenticated:
        return False
    if not_before.token_id:
        ids = {grant.token_id for grant in record.grants.values()}
        return not_before.issuer == record.issuer and not_before.token_id in ids
    if not_before.subject or not_before.issuer:
        whose = (record.issuer, record.subject if not_before.subject else "")
        if (not_before.issuer, not_before.subject) != whose:
            return False
    session = not_before.provider_session
    held = {grant.provider_session or NO_PROVIDER_SESSION for grant in record.grants.values()}
    return not session or session in held
