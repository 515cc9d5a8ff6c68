"""Who may sign in: operators and their passphrases, as scrypt (RFC 7914) keeps them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)

MIN_PASSPHRASE_LENGTH = 12
MAX_PASSPHRASE_BYTES = 1_024

COST = 15
"""Binary logarithm of scrypt's N. With r and p below, it is one of the equal choices that OWASP's
Password Storage Cheat Sheet gives: 32 MiB each time. It is kept with each key, and may rise."""

_COSTS = range(10, 18)
_R, _P = 8, 3
_MAX_MEMORY_BYTES = 256 << 20
_SALT_BYTES = 16
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

CONCURRENT_CHECKS = 2
"""Passphrases that are checked at once: strangers cannot take the machine's memory."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may sign in.

    Attributes:
        name: for logs and the page.
        salt: random.
        key: what scrypt derives from the salt and the passphrase.
        cost: as ``COST``.
    """

    name: str
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)
    cost: int = COST

    def knows(self, passphrase: str) -> bool:
        """Whether this is the passphrase; takes a tenth of a second, on purpose."""
        return hmac.compare_digest(_derived(passphrase, self.salt, self.cost), self.key)


NOBODY = Operator("", b"\0" * _SALT_BYTES, b"\0" * _KEY_BYTES)


def _signs_in(operator: Operator | None, passphrase: str, costs: Iterable[int]) -> bool:
    """Whether this is the passphrase of an operator, who may be unknown.

    One derivation for each cost that an operator has, for every name: an unknown one takes as long
    as a known one, and operators of different costs as long as each other.
    """
    is_right = False
    for cost in costs:
        whose = operator if operator is not None and operator.cost == cost else NOBODY
        is_equal = hmac.compare_digest(_derived(passphrase, whose.salt, cost), whose.key)
        is_right |= is_equal and whose is operator
    return is_right


def operator_line(name: str, passphrase: str, *, cost: int = COST) -> str:
    """A line of the operators' file.

    Raises:
        ValueError: the name or the passphrase is unfit.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name is 1 to 64 letters, digits, or any of . _ @ -")
    if len(passphrase) < MIN_PASSPHRASE_LENGTH:
        raise ValueError(f"a passphrase has {MIN_PASSPHRASE_LENGTH} characters or more")
    if len(passphrase.encode()) > MAX_PASSPHRASE_BYTES:
        raise ValueError(f"a passphrase has {MAX_PASSPHRASE_BYTES} bytes at most")
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _derived(passphrase, salt, cost)
    return f"{name}:scrypt:{cost}:{_encoded(salt)}:{_encoded(key)}"


class OperatorsFile:
    """The operators, as their file says now. One that is gone, or has no lines, leaves nobody.

    At the start every line has to be sound. After that each line is judged by itself, so that an
    odd one keeps nobody in force whose line was taken out; a file without any sound line, half-
    written perhaps, leaves the last operators in force.

    Args:
        path: the file; blank lines and those that begin with ``#`` do not count.

    Raises:
        OSError: it cannot be read.
        ValueError: it is unfit.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = WatchedFile(path)
        self._operators, odd = _parsed(path.read_text(encoding="utf-8"))
        if odd:
            raise ValueError(odd[0])
        if not self._operators:
            raise ValueError("names nobody")
        self._failures: NewEntries[str] = NewEntries()
        self._checks = asyncio.Semaphore(CONCURRENT_CHECKS)

    def get(self, name: str) -> Operator | None:
        """The operator of that name."""
        if self._file.changed(time.monotonic()):
            self._reload()
        return self._operators.get(name)

    async def sign_in(self, name: str, passphrase: str) -> Operator | None:
        """The operator, if this is the passphrase."""
        operator = self.get(name)
        if len(passphrase.encode()) > MAX_PASSPHRASE_BYTES:
            return None
        async with self._checks:
            is_right = await asyncio.to_thread(_signs_in, operator, passphrase, self._costs())
        return operator if is_right else None

    def _costs(self) -> list[int]:
        return sorted({operator.cost for operator in self._operators.values()} or {COST})

    def _reload(self) -> None:
        try:
            operators, odd = _parsed(self._path.read_text(encoding="utf-8"))
            if odd and not operators:
                raise ValueError(odd[0])
        except FileNotFoundError:
            self._file.mark_read()
            self._operators = {}
            self._report(f"operators_file is gone, and nobody can sign in: {self._path}")
        except (OSError, ValueError) as error:
            self._report(f"operators_file cannot be reloaded: {self._path}: {error}")
        else:
            self._file.mark_read()
            self._operators = operators
            self._report(*(f"operators_file: skipped: {self._path}: {text}" for text in odd))
            log.info("operators reloaded from %s", self._path)

    def _report(self, *failures: str) -> None:
        """Log each failure once: a file that cannot be used is read again and again."""
        for failure in self._failures.of(failures):
            log.error("%s", failure)


def _parsed(text: str) -> tuple[dict[str, Operator], list[str]]:
    """The operators by name, and what is wrong with lines that name none.

    Of a name that is there twice, neither line counts: nobody could say which passphrase is meant.
    """
    operators: dict[str, Operator] = {}
    odd: list[str] = []
    twice: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            operator = _operator(line.strip())
        except ValueError as error:
            odd.append(f"line {number}{error}")
            continue
        if operator.name in operators:
            odd.append(f"line {number}: {operator.name} is there twice")
            twice.add(operator.name)
        operators[operator.name] = operator
    return {name: it for name, it in operators.items() if name not in twice}, odd


def _operator(line: str) -> Operator:
    """
    Raises:
        ValueError: it is no operator's line; the message goes on after its number.
    """
    name, *rest = line.split(":")
    if not _NAME.fullmatch(name) or len(rest) != 4 or rest[0] != "scrypt":
        raise ValueError(" is not NAME:scrypt:COST:SALT:KEY")
    try:
        salt, key = (base64.b64decode(part, validate=True) for part in rest[2:])
    except ValueError:
        raise ValueError(": the salt or the key is not base64") from None
    if not rest[1].isascii() or not rest[1].isdecimal() or int(rest[1]) not in _COSTS:
        raise ValueError(f": the cost is not {_COSTS[0]} to {_COSTS[-1]}")
    if len(salt) != _SALT_BYTES or len(key) != _KEY_BYTES:
        raise ValueError(": the salt or the key is cut short")
    return Operator(name, salt, key, int(rest[1]))


def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(
        passphrase.encode(),
        salt=salt,
        n=1 << cost,
        r=_R,
        p=_P,
        maxmem=_MAX_MEMORY_BYTES,
        dklen=_KEY_BYTES,
    )


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
