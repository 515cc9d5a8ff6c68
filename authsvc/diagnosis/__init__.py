"""Faults between the adapter and the store, and their remedies.

Each check examines one thing, for a bounded time, and changes nothing that remains. A check that
fails does not stop the others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError
from authsvc.tokens.keys import KeyLoadError


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


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        subject: what it checks.
        run: does the check. ``OSError``, ``AuthError``, ``ConfigError`` and ``KeyLoadError`` that
            it raises become findings.
        remedy: what to do if it raises or takes too long.
    """

    subject: str
    run: Callable[[Report], Awaitable[None]]
    remedy: str


async def diagnose(checks: Iterable[Check], *, timeout_seconds: float) -> AsyncIterator[Finding]:
    """Run all checks, one after the other.

    Args:
        checks: in the order of the chain.
        timeout_seconds: how long each may take.

    Yields:
        The findings, each when it is known. A fault of the configuration that several checks meet
        is reported once.
    """
    reported: set[str] = set()
    for check in checks:
        report = Report(check.subject)
        try:
            async with asyncio.timeout(timeout_seconds):
                await check.run(report)
        except TimeoutError:
            report.fail(f"no answer in {timeout_seconds:g} s", check.remedy)
        except ConfigError as error:
            if str(error) not in reported:
                report.fail(str(error), check.remedy)
        except (OSError, AuthError, KeyLoadError) as error:
            report.fail(str(error), check.remedy)
        for finding in report.findings:
            reported.add(finding.text)
            yield finding


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
