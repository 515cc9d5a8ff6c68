"""Operators and their passphrases, as scrypt (RFC 7914) derives keys from them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

MIN_PASSPHRASE_LENGTH = 12
MAX_PASSPHRASE_BYTES = 1_024

COST = 15
"""Binary logarithm of scrypt's N. With r and p below, it is one of the equivalent choices of
OWASP's Password Storage Cheat Sheet, and takes 32 MiB. Each key is stored with its cost, so that
the cost of new keys may rise."""

_COSTS = range(10, 18)
_R, _P = 8, 3
_MAX_MEMORY_BYTES = 256 << 20
_SALT_BYTES = 16
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who may sign in.

    Attributes:
        name: shown in logs and on pages.
        salt: random bytes.
        key: derived by scrypt from the salt and the passphrase.
        cost: as ``COST``.
    """

    name: str
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)
    cost: int = COST


NOBODY = Operator("", b"\0" * _SALT_BYTES, b"\0" * _KEY_BYTES)
"""Stands for an unknown operator, so that checking takes the same time."""


def has_passphrase(operator: Operator | None, passphrase: str, costs: Iterable[int]) -> bool:
    """Whether this is an operator's passphrase, in the same time for every name.

    Args:
        operator: None if the name is unknown.
        passphrase: to check.
        costs: all costs of the file's operators. A key is derived for each of them, so that the
            latency reveals neither whether the name is known nor its operator's cost.
    """
    is_right = False
    for cost in costs:
        whose = operator if operator is not None and operator.cost == cost else NOBODY
        is_equal = hmac.compare_digest(_derived(passphrase, whose.salt, cost), whose.key)
        is_right |= is_equal and whose is operator
    return is_right


def operator_line(name: str, passphrase: str, *, cost: int = COST) -> str:
    """A line of the operators file.

    Args:
        name: the operator's.
        passphrase: the operator's.
        cost: as ``COST``.

    Raises:
        ValueError: the name or the passphrase is not allowed; the message says what is.
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


def parse_operator(line: str) -> Operator:
    """The inverse of ``operator_line``.

    Raises:
        ValueError: the line is not one of an operator; the message does not quote it.
    """
    name, *rest = line.split(":")
    if not _NAME.fullmatch(name) or len(rest) != 4 or rest[0] != "scrypt":
        raise ValueError("not NAME:scrypt:COST:SALT:KEY")
    try:
        salt, key = (base64.b64decode(part, validate=True) for part in rest[2:])
    except ValueError:
        raise ValueError("the salt or the key is not base64") from None
    if not rest[1].isascii() or not rest[1].isdecimal() or int(rest[1]) not in _COSTS:
        raise ValueError(f"the cost is not {_COSTS[0]} to {_COSTS[-1]}")
    if len(salt) != _SALT_BYTES or len(key) != _KEY_BYTES:
        raise ValueError("the salt or the key is truncated")
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
