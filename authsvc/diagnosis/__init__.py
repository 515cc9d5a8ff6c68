"""What is wrong between the adapter and the store, and what mends it.

Each check looks at one thing, for a bounded time, and changes nothing. What it finds stands by
itself: none stops the others.
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
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        level: how bad it is.
        subject: what was looked at.
        text: what was found. May quote what a server answered.
        remedy: what mends it; empty where nothing has to be mended.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""


@dataclass(slots=True)
class Report:
    """Where a check says what it finds about its subject."""

    subject: str
    findings: list[Finding] = field(default_factory=list)

    def ok(self, text: str) -> None:
        """Well."""
        self.findings.append(Finding(Level.OK, self.subject, text))

    def warn(self, text: str, remedy: str) -> None:
        """It works, and may not for long, or not well."""
        self.findings.append(Finding(Level.WARN, self.subject, text, remedy))

    def fail(self, text: str, remedy: str) -> None:
        """It does not work."""
        self.findings.append(Finding(Level.FAIL, self.subject, text, remedy))


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        subject: what it looks at.
        run: looks. May raise ``OSError``, ``AuthError``, ``ConfigError`` and ``KeyLoadError``,
            which are findings, too.
        remedy: what mends it when it raises or takes too long.
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
        What they find, as they find it.
    """
    for check in checks:
        report = Report(check.subject)
        try:
            async with asyncio.timeout(timeout_seconds):
                await check.run(report)
        except TimeoutError:
            report.fail(f"no answer in {timeout_seconds:g} s", check.remedy)
        except (OSError, AuthError, ConfigError, KeyLoadError) as error:
            report.fail(str(error), check.remedy)
        for finding in report.findings:
            yield finding


PROXY_VARIABLES = (
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
)
"""What many programs take a proxy from. Ours do not: docs/security.md says why."""


def directly(remedy: str) -> str:
    """A remedy for what cannot be reached over HTTP, which says of a proxy in the environment that
    it is not used.

    Args:
        remedy: says how it is to be reached without one.
    """
    # The names alone: a proxy's URL may hold a password.
    found = [name for name in PROXY_VARIABLES if os.environ.get(name)]
    if not found:
        return remedy
    return f"{remedy} Proxies of the environment are ignored ({', '.join(found)})."


def cause(error: OSError) -> str:
    """What the system says, in place of asyncio's words for it."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
