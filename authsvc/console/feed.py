"""What has happened: the last events of one watch, and how many of each kind there were."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from authsvc.client import AdminClient
from authsvc.common.newest import Newest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EVENT_BYTES, Event, EventType
from authsvc.domain.record import Record

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""A watch that is refused is asked for again so soon."""

STEP_SECONDS = 15
"""Events are counted in steps of this length."""

KEPT_SECONDS = 6 * 3600
"""How far back they are counted."""


@dataclass(frozen=True, slots=True)
class Noted:
    """An event, and when it happened.

    Attributes:
        time: of the event, in seconds since the epoch; when it came here, if that is earlier: a
            session that has to make room expires before its time.
        event: what happened.
    """

    time: float
    event: Event


class Counts:
    """How many events of each kind there were, step by step."""

    def __init__(self) -> None:
        self._steps: dict[int, Counter[EventType]] = {}

    def add(self, kind: EventType, time: float, now: float) -> None:
        """Count one event; what is too old to be asked for is forgotten."""
        oldest = _step(now - KEPT_SECONDS)
        if _step(time) < oldest:
            return
        self._steps.setdefault(_step(time), Counter())[kind] += 1
        while (first := next(iter(self._steps))) < oldest:
            del self._steps[first]

    def bars(
        self, kinds: frozenset[EventType], *, now: float, bar_seconds: int, count: int
    ) -> list[int]:
        """The newest bars, the oldest of them first; the last one is still growing.

        Args:
            kinds: counted together.
            now: the time.
            bar_seconds: of each bar, a multiple of ``STEP_SECONDS``.
            count: how many bars.
        """
        steps_a_bar = bar_seconds // STEP_SECONDS
        last = _step(now) // steps_a_bar
        bars = [0] * count
        for step, counted in self._steps.items():
            index = step // steps_a_bar - last + count - 1
            if 0 <= index < count:
                bars[index] += sum(counted[kind] for kind in kinds)
        return bars


class Feed:
    """The events that one watch of everything brings, the last so many of them.

    Args:
        client: an operator's.
        events_kept: how many, of ``EVENT_BYTES`` each on average.
        clock: seconds since the epoch.
    """

    def __init__(
        self, client: AdminClient, *, events_kept: int, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._clock = clock
        self._noted: Newest[Noted] = Newest(events_kept, events_kept * EVENT_BYTES)
        self._resume_token = ""
        self.counts = Counts()
        self.since: float | None = None
        """From when on nothing is missing; None while nothing has been watched."""
        self.problem: Reason | None = None
        """Why there is no watch just now."""

    async def run(self) -> None:
        """Watch until cancelled, come what may."""
        while True:
            try:
                await self._watch()
            except AuthError as error:
                if error.reason is not self.problem:
                    log.warning("events cannot be watched: %s", error)
                self.problem = error.reason
                if error.reason is Reason.ARGUMENT_INVALID:
                    self._resume_token = ""  # the log is another one: what was before is over
            await asyncio.sleep(RETRY_SECONDS)

    def latest(self) -> Iterator[Noted]:
        """All events, the newest first."""
        return reversed(self._noted)

    def about(self, record: Record) -> list[Noted]:
        """What happened to a session, and the not-befores that may concern it; the newest first."""
        return [noted for noted in self.latest() if _concerns(noted.event, record)]

    def recent(self, count: int) -> list[Noted]:
        """The newest so many events."""
        return list(islice(self.latest(), count))

    @property
    def has_forgotten(self) -> bool:
        """Whether older events had to make room."""
        return self._noted.dropped > 0

    async def _watch(self) -> None:
        async with self._client.watching(resume_token=self._resume_token) as events:
            if not self._resume_token:
                self.since = self._clock()
            self.problem = None
            async for watched in events:
                self._resume_token = watched.resume_token
                self._note(watched.event)

    def _note(self, event: Event) -> None:
        now = self._clock()
        noted = Noted(min(event.time, now), event)
        self._noted.append(noted, event.memory_bytes())
        self.counts.add(event.type, noted.time, now)


def _step(time: float) -> int:
    return int(time // STEP_SECONDS)


def _concerns(event: Event, record: Record) -> bool:
    if event.record is not None:
        return event.record.id == record.id
    not_before = event.not_before
    if not_before is None or not record.authenticated:
        return False
    if not_before.token_id:
        ids = {grant.token_id for grant in record.grants.values()}
        return not_before.issuer == record.issuer and not_before.token_id in ids
    return not not_before.subject or (
        (not_before.issuer, not_before.subject) == (record.issuer, record.subject)
    )
