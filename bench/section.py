"""What a section of the report is made of. Each is a module with ``async def run(options)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import Summary

NO_VERDICT = "no verdict"


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure, and where.

    Attributes:
        folder: an empty folder for databases, configurations and logs.
        rounds: samples of each side, after one that warms up.
        step: told what comes next.
        sessions: in the large store.
    """

    folder: Path
    rounds: int = 5
    step: Callable[[str], None] = lambda text: None
    sessions: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached, and what was.

    Attributes:
        text: such as "CPU of a raw echo, row 8".
        limit: what was to be reached.
        measured: what was, over the rounds.
        at_least: whether more is better.
        digits: shown behind the point.
        unit: such as "µs".
        doubts: why these samples give no verdict, such as a generator that was late.
    """

    text: str
    limit: float
    measured: Summary
    at_least: bool = False
    digits: int = 2
    unit: str = ""
    doubts: Sequence[str] = ()

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        median = self.measured.median
        return median >= self.limit if self.at_least else median <= self.limit


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of lines.

    Attributes:
        title: above it.
        x: what the horizontal axis shows.
        y: what the vertical one shows.
        lines: points by name, x before y.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical one is.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the report.

    Attributes:
        title: what was compared.
        head: the columns' names.
        rows: the table.
        notes: what to know about it: method, what stands out, why something was left out.
        samples: everything that was measured, ready for JSON.
        goals: those that it says something about.
        plots: to be drawn.
        doubts: what disturbed the whole section: no goal of it has a verdict then.
    """

    title: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    samples: Mapping[str, object] = field(default_factory=dict)
    goals: Sequence[Goal] = ()
    plots: Sequence[Plot] = ()
    doubts: Sequence[str] = ()

    def verdict(self, goal: Goal) -> str:
        """``yes``, ``no``, or ``no verdict`` and why."""
        if doubts := [*self.doubts, *goal.doubts]:
            return f"{NO_VERDICT}: {'; '.join(doubts)}"
        return "yes" if goal.met else "no"


def exit_status(sections: Sequence[Section]) -> int:
    """Of a program that measured these: 0 when all goals were met, 1 when one was missed, and 3
    when none was missed and one has no verdict."""
    verdicts = {part.verdict(goal) for part in sections for goal in part.goals}
    if "no" in verdicts:
        return 1
    return 0 if verdicts <= {"yes"} else 3
