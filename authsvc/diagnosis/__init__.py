"""Faults between the adapter and the store, and their remedies.

Each check examines one thing, for a bounded time, and changes nothing that remains. They run at the
same time: one that fails or hangs stops and delays none of the others.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError
from authsvc.tokens.keys import KeyLoadError

PROGRESS_SECONDS = 2.0
"""Time without a result after which a caller is told what is waited for."""


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        level: its severity.
        subject: what was checked.
        text: what was found. May quote the answer of a server.
        remedy: what to do about it; empty if nothing has to be done, or the text says it.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""


@dataclass(slots=True)
class Report:
    """Collects what a check finds about its subject."""

    subject: str
    findings: list[Finding] = field(default_factory=list)

    def ok(self, text: str) -> None:
        """It works."""
        self.findings.append(Finding(Level.OK, self.subject, text))

    def note(self, text: str) -> None:
        """Nothing is known to be wrong, and something was not looked at, or is unusual."""
        self.findings.append(Finding(Level.NOTE, self.subject, text))

    def warn(self, text: str, remedy: str) -> None:
        """It works, but badly or not for long."""
        self.findings.append(Finding(Level.WARN, self.subject, text, remedy))

    def fail(self, text: str, remedy: str) -> None:
        """It does not work."""
        self.findings.append(Finding(Level.FAIL, self.subject, text, remedy))


Look = Callable[[Report], Awaitable[None]]
"""Looks at something, and reports on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One check.

    Attributes:
        subject: what it checks.
        run: does the check. What it raises becomes a finding.
        remedy: what to do if it raises or takes too long.
        name: which one of its subject it checks, such as a URL; empty where there is only one.
        after: another check, whose result this one uses; None to run with all others.
    """

    subject: str
    run: Look
    remedy: str
    name: str = ""
    after: Check | None = None


Waiting = Callable[[list[Check]], None]
"""Is called with the checks that have not ended, while their findings are waited for."""


async def diagnose(
    checks: Iterable[Check], *, timeout_seconds: float, waiting: Waiting = lambda _: None
) -> AsyncIterator[Finding]:
    """Run all checks at the same time.

    Args:
        checks: in the order of the chain.
        timeout_seconds: how long each may take. All of them take as long at most; twice as long
            where one has to wait for another.
        waiting: is called whenever nothing has ended for ``PROGRESS_SECONDS``.

    Yields:
        The findings, in the order of the checks; each when it and those before it are known. A
        fault of the configuration that several checks meet is reported once.
    """
    running: dict[Check, asyncio.Task[_Outcome]] = {}
    for check in checks:
        before = None if check.after is None else running[check.after]
        running[check] = asyncio.create_task(_outcome(check, timeout_seconds, before))
    reported: set[str] = set()
    try:
        for task in running.values():
            await _ended(task, running, waiting)
            for finding in task.result().new_to(reported):
                yield finding
    finally:
        for task in running.values():
            task.cancel()


async def _ended(
    task: asyncio.Task[_Outcome],
    running: Mapping[Check, asyncio.Task[_Outcome]],
    waiting: Waiting,
) -> None:
    while not task.done():
        pending = [it for it in running.values() if not it.done()]
        done, _ = await asyncio.wait(
            pending, timeout=PROGRESS_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            waiting([check for check, it in running.items() if not it.done()])


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a check has found, and faults of the configuration that others may meet as well."""

    report: Report
    faults: list[Finding]

    def new_to(self, reported: set[str]) -> list[Finding]:
        """The findings, without faults that are in ``reported``; their texts are added to it."""
        found = [*self.report.findings, *(it for it in self.faults if it.text not in reported)]
        reported.update(it.text for it in found)
        return found


async def _outcome(
    check: Check, timeout_seconds: float, before: asyncio.Task[_Outcome] | None
) -> _Outcome:
    """The outcome of a check that begins once ``before`` has ended."""
    if before is not None:
        await asyncio.wait([before])
    report, faults = Report(check.subject), list[Finding]()
    try:
        async with asyncio.timeout(timeout_seconds):
            faults = await _faults_of(check.run, report, check.remedy)
    except TimeoutError:
        which = f"{check.name}: " if check.name else ""
        report.fail(f"{which}did not answer in {timeout_seconds:g} s", check.remedy)
    return _Outcome(report, faults)


async def _faults_of(look: Look, report: Report, remedy: str) -> list[Finding]:
    """Faults of the configuration that a look raises; what else it raises is in its report."""
    try:
        await look(report)
    except ConfigError as error:
        lines = str(error).splitlines()
        return [Finding(Level.FAIL, report.subject, line, remedy) for line in lines]
    except (OSError, AuthError, KeyLoadError) as error:
        report.fail(str(error) or type(error).__name__, remedy)
    except Exception as error:  # noqa: BLE001 - reported; it ends no other check
        report.fail(f"the check failed unexpectedly: {_described(error)}", _REPORT_IT)
    return []


_REPORT_IT = "This is a fault of doctor itself: report it with this line."


def _described(error: Exception) -> str:
    """Its type and the line that raised it, without its message, which may quote a secret."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"


async def side_by_side(report: Report, looks: Iterable[Look], remedy: str) -> None:
    """Look at several things of one check at the same time.

    Args:
        report: gets the findings of all, in their order; where the check takes too long, those
            that there are.
        looks: each is given a report of its own.
        remedy: what to do if one of them raises.
    """
    parts = [(Report(report.subject), look) for look in looks]

    async def run(part: Report, look: Look) -> None:
        part.findings += await _faults_of(look, part, remedy)

    try:
        await asyncio.gather(*(run(part, look) for part, look in parts))
    finally:
        for part, _ in parts:
            report.findings += part.findings


PROXY_VARIABLES = (
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
)
"""Variables from which many programs take a proxy. Ours do not: docs/security.md says why."""


def directly(remedy: str) -> str:
    """A remedy for what is unreachable over HTTP: adds that a proxy of the environment is not used.

    Args:
        remedy: how to reach it without a proxy.
    """
    # The names alone: a proxy's URL may hold a password.
    found = [name for name in PROXY_VARIABLES if os.environ.get(name)]
    if not found:
        return remedy
    return f"{remedy} Proxies of the environment are ignored ({', '.join(found)})."


def cause(error: OSError) -> str:
    """The system's message for an error, instead of asyncio's."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
