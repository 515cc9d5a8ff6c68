"""The calls of a drill, counted by step."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an MCP client, and its result.

    Attributes:
        kind: ``known``, ``create`` or ``refresh``.
        start: when it began, in monotonic seconds.
        end: when it ended, likewise.
        failure: status and reason of the answer, or the transport's error; empty if it succeeded.
    """

    kind: str
    start: float
    end: float
    failure: str = ""


@dataclass(slots=True)
class Step:
    """A step of a drill.

    Attributes:
        text: what was done.
        start: in monotonic seconds.
        is_outage: whether its calls may fail, as the runbook itself stops the service here.
        spares: kinds of calls that may not fail even then.
        end: likewise; None while it lasts.
        calls: those that ended in it.
        disallowed: how many of them failed that may not.
    """

    text: str
    start: float
    is_outage: bool = False
    spares: frozenset[str] = frozenset()
    end: float | None = None
    calls: list[Call] = field(default_factory=list)
    disallowed: int = 0

    @property
    def seconds(self) -> float:
        """Its duration, so far."""
        return (time.monotonic() if self.end is None else self.end) - self.start

    @property
    def failures(self) -> Counter[str]:
        """How many of its calls failed, by kind and reason."""
        return Counter(f"{call.kind}: {call.failure}" for call in self.calls if call.failure)

    def excuses(self, call: Call) -> bool:
        """Whether a call may fail because a part of it was in this step."""
        end = math.inf if self.end is None else self.end
        overlaps = call.start <= end and call.end >= self.start
        return self.is_outage and overlaps and call.kind not in self.spares


class Tally:
    """The steps of one drill, one after the other. A call counts where it ends."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def begin(self, text: str, *, is_outage: bool = False, spares: Iterable[str] = ()) -> Step:
        """End the step before, and begin another."""
        self.close()
        step = Step(text, time.monotonic(), is_outage, frozenset(spares))
        self.steps.append(step)
        return step

    def close(self) -> None:
        """End the last step."""
        if self.steps and self.steps[-1].end is None:
            self.steps[-1].end = time.monotonic()

    def count(self, call: Call) -> None:
        """Count a call in the step that lasts; calls between drills are not counted."""
        if not self.steps or self.steps[-1].end is not None:
            return
        last = self.steps[-1]
        last.calls.append(call)
        if call.failure and not any(step.excuses(call) for step in self.steps):
            last.disallowed += 1

    @property
    def calls(self) -> int:
        """How many calls ended in all steps."""
        return sum(len(step.calls) for step in self.steps)

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(step.failures.total() for step in self.steps)

    @property
    def disallowed(self) -> int:
        """How many of them failed outside outages."""
        return sum(step.disallowed for step in self.steps)
