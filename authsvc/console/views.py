"""From values to HTML: templates, and how times and strangers' text are shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from authsvc.common import times

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that cannot be seen, or that rearrange what can (Unicode UTS #39)."""


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
        duration=times.duration,
        relative=lambda time: times.relative(time, clock(), max_units=1),
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
    return times.utc(time).strftime("%Y-%m-%d %H:%M:%S")


def iso(time: float) -> str:
    """A time as RFC 3339 has it."""
    return times.utc(time).strftime("%Y-%m-%dT%H:%M:%SZ")
