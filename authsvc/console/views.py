"""From values to HTML: templates, and how times and strangers' text are shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that cannot be seen, or that rearrange what can (Unicode UTS #39)."""

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def environment(clock: Callable[[], float]) -> Environment:
    """All templates. Every value is escaped, and shown as ``visible`` shows it.

    Args:
        clock: seconds since the epoch, for how long ago things were.
    """
    templates = Environment(
        loader=PackageLoader("authsvc.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        utc=utc,
        iso=iso,
        duration=duration,
        relative=lambda time: relative(time - clock()),
    )
    return templates


def visible(value: object) -> object:
    """Text in which nothing is hidden: subjects and session ids are chosen by strangers."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    if value.isascii() and value.isprintable():
        return value
    return "".join(map(_visible, value))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return f"\\u{{{ord(character):x}}}"


def utc(time: float) -> str:
    """A time for people, to the second."""
    return _datetime(time).strftime("%Y-%m-%d %H:%M:%S")


def iso(time: float) -> str:
    """A time as RFC 3339 has it."""
    return _datetime(time).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A length of time, in its two largest units at most."""
    left, parts = int(abs(seconds)), list[str]()
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def relative(seconds: float) -> str:
    """How far away a time is, in its largest unit."""
    if abs(seconds) < 1:
        return "now"
    name, size = next((unit for unit in _UNITS if abs(seconds) >= unit[1]), _UNITS[-1])
    count = int(abs(seconds) // size)
    return f"{count} {name} ago" if seconds < 0 else f"in {count} {name}"


def _datetime(time: float) -> datetime:
    # What a store holds may be no time that there is.
    return datetime.fromtimestamp(min(max(time, 0.0), 253_402_300_799.0), UTC)
