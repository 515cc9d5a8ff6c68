"""The suite as a program: installs it, runs it against a URL, and reads its findings."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from scripts import npm
from scripts.install import InstallError

REVISIONS: Final = ("2025-11-25", "2026-07-28")

_FOLDER: Final = Path(__file__).parent
_PACKAGE: Final = "@modelcontextprotocol/conformance"
_LIMIT_SECONDS: Final = 180.0

_RUNNING = re.compile(r"^=== Running scenario: (\S+) ===$", re.MULTILINE)
_NOT_SCORED = re.compile(r"^  \S (\S+) \((extension|pending|added-after-release)\)$", re.MULTILINE)
_RESULT_FOLDER = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT[^/]*")


class SuiteError(Exception):
    """The suite could not be installed, or did not finish."""


class Verdict(Enum):
    """The result of one scenario."""

    PASSES = "passes"
    WARNS = "warns"
    FAILS = "fails"
    NOT_RUN = "not exercised"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario in one run.

    Attributes:
        name: as the suite has it.
        unscored: why it does not count; empty when it does.
        verdict: its worst check's.
        passed: checks that passed.
        complaints: what the failed checks and warnings say, each once.
    """

    name: str
    unscored: str
    verdict: Verdict
    passed: int
    complaints: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, unscored: str, checks: Iterable[Mapping[str, Any]]) -> Scenario:
        """From its ``checks.json``. Without any check it has failed: the suite could not run it."""
        checks = list(checks)
        statuses = Counter(check["status"] for check in checks)
        if statuses["FAILURE"] or not checks:
            verdict = Verdict.FAILS
        elif statuses["WARNING"]:
            verdict = Verdict.WARNS
        else:
            verdict = Verdict.PASSES if statuses["SUCCESS"] else Verdict.NOT_RUN
        complaints = [
            f"{check['id']}: {check.get('errorMessage', '')}"
            for check in checks
            if check["status"] in {"FAILURE", "WARNING"}
        ]
        return cls(name, unscored, verdict, statuses["SUCCESS"], tuple(dict.fromkeys(complaints)))


def version() -> str:
    """The suite's version, as it is pinned."""
    lock = json.loads((_FOLDER / "package-lock.json").read_text())
    return str(lock["packages"][f"node_modules/{_PACKAGE}"]["version"])


def install() -> None:
    """Install what ``package-lock.json`` pins, unless it is there.

    Raises:
        SuiteError: npm failed; the message says why.
    """
    try:
        npm.install(_FOLDER)
    except InstallError as error:
        raise SuiteError(f"the conformance suite was not installed: {error}") from None


async def run(url: str, revision: str) -> list[Scenario]:
    """All server scenarios that a revision requires or reports, in the suite's order.

    Raises:
        SuiteError: it did not come to its end.
    """
    script = _FOLDER / "node_modules" / _PACKAGE / "dist" / "index.js"
    with tempfile.TemporaryDirectory(prefix="conformance-") as results:
        process = await asyncio.create_subprocess_exec(
            *(str(npm.NODE), str(script), "server", "--url", url),
            *("--requirements", revision, "--output-dir", results),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                printed, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise SuiteError(f"the suite took longer than {_LIMIT_SECONDS:g} seconds") from None
        text = printed.decode()
        if "=== SUMMARY ===" not in text:
            raise SuiteError(f"the suite did not come to its end:\n{text[-2000:]}")
        return _scenarios(text, Path(results))


def _scenarios(printed: str, results: Path) -> list[Scenario]:
    unscored: dict[str, str] = dict(_NOT_SCORED.findall(printed))
    checks = {
        match[1]: json.loads((folder / "checks.json").read_text())
        for folder in results.iterdir()
        if (match := _RESULT_FOLDER.fullmatch(folder.name)) is not None
    }
    return [
        Scenario.of(name, unscored.get(name, ""), checks.get(name, ()))
        for name in _RUNNING.findall(printed)
    ]
