"""One run: a fault under load, and the checks of its history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from chaos import checks
from chaos.checks import Violation
from chaos.faults import Bounds, Failures, Fault
from chaos.figures import Figures, Growth
from chaos.history import OF_SUBJECTS, Call, History
from chaos.stage import staged

BEFORE_SECONDS = 2.0
AFTER_SECONDS = 3.0

TRAILS = 5
"""Violations whose sessions' calls are kept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of all runs.

    Attributes:
        seconds: the duration of each fault.
        calls_per_second: of the load.
        seed: of the mix.
    """

    seconds: float
    calls_per_second: float
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run.

    Attributes:
        fault: the injected fault.
        figures: its measurements.
        violations: of the guarantees, and failures that the fault does not allow.
        missed: exceeded bounds, in words.
        memory: growth of each replica's memory, if it was measured.
        trail: for the first violations, every call about the same session or not-before.
    """

    fault: Fault
    figures: Figures
    violations: tuple[Violation, ...]
    missed: tuple[str, ...]
    memory: Mapping[str, Growth]
    trail: tuple[Call, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every guarantee and bound was kept."""
        return not self.violations and not self.missed


async def run(fault: Fault, plan: Plan, folder: Path, tell: Callable[[str], None]) -> Result:
    """Inject a fault, and check the history.

    Raises:
        ValkeyError, ProgramError: something does not start, or start again.
    """
    with TemporaryDirectory(prefix=f"{fault.name}-", dir=folder) as run_folder:
        async with staged(
            Path(run_folder),
            fault.setup,
            seconds=plan.seconds,
            calls_per_second=plan.calls_per_second,
            seed=plan.seed,
            tell=tell,
        ) as (stage, traffic):
            async with traffic.flowing():
                await asyncio.sleep(BEFORE_SECONDS)
                await fault.inject(stage)
                await asyncio.sleep(AFTER_SECONDS)
            if unanswered := await traffic.audit():
                stage.broken.append(f"{unanswered} resolves of the audit failed")
    memory = {name: Growth.of(samples) for name, samples in stage.memory.items()}
    return judge(fault, stage.history, memory, stage.broken)


def judge(
    fault: Fault, history: History, memory: Mapping[str, Growth], broken: Iterable[str] = ()
) -> Result:
    """Check a history against the guarantees and the fault's bounds."""
    figures = Figures.of(history)
    violations = tuple(_violations(fault.bounds, history))
    missed = (*broken, *_missed(fault.bounds, figures, memory.values()))
    first = [violation.call for violation in violations[:TRAILS]]
    sessions, subjects = {call.session for call in first}, {call.subject for call in first}
    trail = tuple(
        call
        for call in history.calls
        if call.session in sessions or (call.subject in subjects and call.act in OF_SUBJECTS)
    )
    return Result(fault, figures, violations, missed, memory, trail)


def _violations(bounds: Bounds, history: History) -> Iterator[Violation]:
    for check in checks.ALWAYS:
        yield from check(history.calls)
    if bounds.clocks_agree:
        yield from checks.causeless(history.calls)
    of_load = list(history.of_load())
    if bounds.failures is Failures.NONE:
        yield from checks.failures(of_load)
    elif bounds.failures is Failures.MENDED:
        yield from checks.unmended(of_load)


def _missed(bounds: Bounds, figures: Figures, memory: Iterable[Growth]) -> Iterator[str]:
    if not figures.calls or not figures.obeyed.count:
        yield "nothing was measured"
    limit = bounds.obeyed_p99_seconds
    if limit is not None and figures.obeyed.p99 >= limit:
        yield f"revocations obeyed after {1000 * figures.obeyed.p99:.0f} ms (p99)"
    if figures.obeyed.max > checks.BOUND_SECONDS:
        yield f"a revocation obeyed after {figures.obeyed.max:.3f} s"
    recovery, within = figures.recovery_seconds, bounds.recovery_seconds
    if recovery is not None and within is not None and recovery > within:
        yield f"recovered after {recovery:.1f} s"
    allowed = bounds.growth_kb_per_minute
    for growth in memory:
        if allowed is not None and growth.per_minute > allowed:
            yield f"memory grew by {growth.per_minute:.0f} KB a minute"
