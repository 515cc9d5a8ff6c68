"""Times and durations as text, for people and for scripts, and read back."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_LAST_SECOND = 253_402_300_799.0
"""The last one that ``datetime`` has: 9999-12-31T23:59:59Z."""


def duration(seconds: float, *, max_units: int = 2) -> str:
    """A length of time in its largest units: ``2 h 5 min``; a zero ends it."""
    left, parts = int(abs(seconds)), list[str]()
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == max_units or (parts and not count):
            break
    return " ".join(parts) or "0 s"


def relative(time: float, now: float, *, max_units: int = 2) -> str:
    """A time as seen from now: ``3 min ago``, ``in 2 h``, ``now`` within a second."""
    if abs(time - now) < 1:
        return "now"
    length = duration(time - now, max_units=max_units)
    return f"{length} ago" if time < now else f"in {length}"


def utc(time: float) -> datetime:
    """A time in UTC; the nearest possible one where a number is none, as a store may hold it."""
    return datetime.fromtimestamp(min(max(time, 0.0), _LAST_SECOND), UTC)


def rfc3339(time: float) -> str:
    """A time for scripts: RFC 3339, in UTC, to the millisecond."""
    return utc(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> float:
    """Seconds since the epoch of a time in RFC 3339's form; in UTC where it names no offset.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
