"""The tables of a drill, and of all drills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drills.drill import Drill
from drills.tally import Step, Tally


@dataclass(frozen=True, slots=True)
class Result:
    """A drill that was done.

    Attributes:
        drill: which.
        tally: its calls.
        missed: what it did not show.
        notes: what it measured.
    """

    drill: Drill
    tally: Tally
    missed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no call failed that may not, and it has shown all that it has to."""
        return not self.missed and not self.tally.disallowed and self.tally.calls > 0


def of_steps(result: Result) -> str:
    """A line for each step: what was done, seconds, calls, failed ones by reason."""
    rows = [("step", "seconds", "calls", "failed", ""), *map(_row, result.tally.steps)]
    width = max(len(row[0]) for row in rows)
    lines = [
        f"  {text:<{width}}  {seconds:>7}  {calls:>6}  {failed:>6}  {reasons}".rstrip()
        for text, seconds, calls, failed, reasons in rows
    ]
    facts = [f"  {text}" for text in (*result.notes, *result.missed)]
    return "\n".join([*lines, *facts])


def of_drills(results: Sequence[Result]) -> str:
    """A line for each drill: failed calls of all calls, and what was seen before."""
    width = max(len(result.drill.name) for result in results)
    return "\n".join(_summary(result, width) for result in results)


def _row(step: Step) -> tuple[str, str, str, str, str]:
    failures = step.failures
    reasons = ", ".join(f"{count} {reason}" for reason, count in failures.most_common())
    allowed = " (an outage by design)" if step.is_outage and failures else ""
    return (
        step.text,
        f"{step.seconds:.1f}",
        str(len(step.calls)),
        str(failures.total()),
        reasons + allowed,
    )


def _summary(result: Result, width: int) -> str:
    tally = result.tally
    outage = tally.failed - tally.disallowed
    parts = [
        "done  " if result.passed else "MISSED",
        f"{result.drill.name:<{width}}",
        f"{tally.disallowed} of {tally.calls} calls failed",
    ]
    if outage:
        parts.append(f"({outage} more in an outage by design)")
    if result.drill.before:
        parts.append(f"first trial: {result.drill.before}")
    return "  ".join(parts)
