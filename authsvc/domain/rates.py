"""Limits on the calls of a subject, of a client or of everyone: what a request counts towards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

MAX_NAME_LENGTH = 64
"""Longest name of a limit, in characters."""

MIN_CALLS_PER_SECOND = 1e-6
MAX_CALLS_PER_SECOND = 1e6
MAX_BURST = 1e9

MAX_LIMITS_OF_CALL = 16
"""Limits that one call may count towards, beside authsvc's own."""

MAX_COUNTED = 256
"""Calls that one request may count as, and entries of its limits."""


class RatePer(Enum):
    """Whose calls a limit counts together. Values are those of the proto."""

    SUBJECT = 1
    CLIENT = 2
    EVERYONE = 3


@dataclass(frozen=True, slots=True)
class Rate:
    """How many calls are served.

    Attributes:
        calls_per_second: in the long run.
        burst: at once; at least 1.

    Raises:
        TypeError: one of them is no number.
        ValueError: one of them is out of range.
    """

    calls_per_second: float
    burst: float

    def __post_init__(self) -> None:
        _check_number(
            "calls_per_second", self.calls_per_second, MIN_CALLS_PER_SECOND, MAX_CALLS_PER_SECOND
        )
        _check_number("burst", self.burst, 1.0, MAX_BURST)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit, by name, of one resource. Two limits that differ in anything are two.

    Attributes:
        name: 1 to 64 visible ASCII characters. Clients that reach the limit see it.
        rate: how many calls are served.
        per: whose calls are counted together: a subject's of one issuer; those of all subjects with
            one client id of one issuer; or everyone's.

    Raises:
        TypeError: one of them is of another type.
        ValueError: ``name`` is none.
    """

    name: str
    rate: Rate
    per: RatePer = RatePer.SUBJECT

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("name", self.name, str),
            ("rate", self.rate, Rate),
            ("per", self.per, RatePer),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name} is of type {kind.__name__}, not {type(value).__name__}")
        check_limit_name(self.name)


@dataclass(frozen=True, slots=True)
class CallCounts:
    """What a request counts as.

    Attributes:
        rate_limits: what it counts towards, beside authsvc's own limits: for each call of its
            message, each of the call's limits once.
        calls: how many calls its message has, for authsvc's own limits; at least 1.
        recheck: whether a request that has been counted is checked again. It counts as nothing.
    """

    rate_limits: tuple[RateLimit, ...] = ()
    calls: int = 1
    recheck: bool = False


ONE_CALL = CallCounts()
RECHECK = CallCounts(recheck=True)


def check_limit_name(name: str) -> str:
    """``name``, which may be a limit's.

    Raises:
        ValueError: it may not.
    """
    if not 0 < len(name) <= MAX_NAME_LENGTH or any(not "!" <= it <= "~" for it in name):
        raise ValueError(
            f"the name of a limit has 1 to {MAX_NAME_LENGTH} visible ASCII characters, and no space"
        )
    return name


def limits_of_call(name: str, limits: object) -> tuple[RateLimit, ...]:
    """The limits of one call.

    Args:
        name: of the argument, for errors.
        limits: some limits, each once.

    Raises:
        TypeError: it is no collection, or holds something else.
        ValueError: there are too many, or one of them twice.
    """
    if isinstance(limits, RateLimit) or not isinstance(limits, Iterable):
        raise TypeError(f"{name} is a sequence of RateLimit, not {type(limits).__name__}")
    found = tuple(limits)
    for limit in found:
        if not isinstance(limit, RateLimit):
            raise TypeError(f"each of {name} is of type RateLimit, not {type(limit).__name__}")
    if len(found) > MAX_LIMITS_OF_CALL:
        raise ValueError(f"{name} holds at most {MAX_LIMITS_OF_CALL} limits")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} holds a limit twice: leave it out")
    return found


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, not {type(value).__name__}")
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{name} is from {least:g} to {most:g}, not {value!r}")
