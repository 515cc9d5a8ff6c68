"""The operators file: who may sign in, as of now."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from authsvc.console.passphrases import (
    COST,
    MAX_PASSPHRASE_BYTES,
    Operator,
    has_passphrase,
    parse_operator,
)
from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)

CONCURRENT_CHECKS = 2
"""Passphrases that are checked at once. It bounds the memory that unauthenticated visitors take."""


class OperatorsFile:
    """The operators of a file. The file is read again when it changes.

    At the start every line has to be valid, but there may be none. Later, an invalid line is
    skipped, so that the removal of another line takes effect all the same. A file with invalid
    lines only, which may be half-written, leaves the last operators in force. A file that is
    missing or empty leaves none.

    Args:
        path: the file; blank lines, and lines that begin with ``#``, are ignored.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is invalid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = WatchedFile(path)
        self._operators, problems = _parsed(path.read_text(encoding="utf-8"))
        if problems:
            raise ValueError(problems[0])
        if not self._operators:
            log.warning("operators_file has no operators, and nobody can sign in: %s", path)
        self._failures: NewEntries[str] = NewEntries()
        self._checks = asyncio.Semaphore(CONCURRENT_CHECKS)

    def get(self, name: str) -> Operator | None:
        """The operator of that name; None if there is none."""
        if self._file.changed(time.monotonic()):
            self._reload()
        return self._operators.get(name)

    async def sign_in(self, name: str, passphrase: str) -> Operator | None:
        """The operator of that name, if this is the passphrase; else None."""
        operator = self.get(name)
        if len(passphrase.encode()) > MAX_PASSPHRASE_BYTES:
            return None
        async with self._checks:
            is_right = await asyncio.to_thread(has_passphrase, operator, passphrase, self._costs())
        return operator if is_right else None

    def _costs(self) -> list[int]:
        return sorted({operator.cost for operator in self._operators.values()} or {COST})

    def _reload(self) -> None:
        try:
            operators, problems = _parsed(self._path.read_text(encoding="utf-8"))
            if problems and not operators:
                raise ValueError(problems[0])
        except FileNotFoundError:
            self._file.mark_read()
            self._operators = {}
            self._report(f"operators_file is missing, and nobody can sign in: {self._path}")
        except (OSError, ValueError) as error:
            self._report(f"operators_file cannot be reloaded: {self._path}: {error}")
        else:
            self._file.mark_read()
            self._operators = operators
            self._report(*(f"operators_file: skipped: {self._path}: {it}" for it in problems))
            log.info("operators reloaded from %s", self._path)

    def _report(self, *failures: str) -> None:
        """Log each failure once, although a file with a failure is read repeatedly."""
        for failure in self._failures.of(failures):
            log.error("%s", failure)


def _parsed(text: str) -> tuple[dict[str, Operator], list[str]]:
    """The operators by name, and the problems of invalid lines.

    A name that occurs twice is invalid in both lines: the right passphrase is not known.
    """
    operators: dict[str, Operator] = {}
    problems: list[str] = []
    repeated: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            operator = parse_operator(line.strip())
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if operator.name in operators:
            problems.append(f"line {number}: {operator.name} occurs twice")
            repeated.add(operator.name)
        operators[operator.name] = operator
    return {name: it for name, it in operators.items() if name not in repeated}, problems
