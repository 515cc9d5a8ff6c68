"""Events counted by type and time."""

from __future__ import annotations

from collections import Counter

from authsvc.domain.events import EventType

STEP_SECONDS = 15
"""Events are counted in steps of this length."""

KEPT_SECONDS = 6 * 3600
"""How far back events are counted."""


class EventCounts:
    """The number of events of each type, by step."""

    def __init__(self) -> None:
        self._steps: dict[int, Counter[EventType]] = {}

    def add(self, kind: EventType, time: float, now: float) -> None:
        """Count one event, and drop the steps that are too old.

        Args:
            kind: the event's type.
            time: the event's, in seconds since the epoch.
            now: seconds since the epoch.
        """
        oldest = _step(now - KEPT_SECONDS)
        if _step(time) < oldest:
            return
        self._steps.setdefault(_step(time), Counter())[kind] += 1
        while (first := next(iter(self._steps))) < oldest:
            del self._steps[first]

    def bars(
        self, kinds: frozenset[EventType], *, now: float, bar_seconds: int, count: int
    ) -> list[int]:
        """The newest bars, the oldest of them first. The last one is not complete yet.

        Args:
            kinds: types that are counted together.
            now: seconds since the epoch.
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


def _step(time: float) -> int:
    return int(time // STEP_SECONDS)
