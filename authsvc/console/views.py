"""The templates, and how they show times and untrusted text."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from authsvc.common import times

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that are invisible, or that reorder others (Unicode UTS #39)."""


def environment(clock: Callable[[], float]) -> Environment:
    """All templates. Every value is escaped, and made visible by ``visible``.

    Args:
        clock: seconds since the epoch, for relative times.
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
    """Text with invisible characters as escapes. Clients choose session ids, and issuers choose
    subjects: a name could look like another one."""
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
    """A time in UTC, to the second."""
    return times.utc(time).strftime("%Y-%m-%d %H:%M:%S")


def iso(time: float) -> str:
    """A time in the format of RFC 3339."""
    return times.utc(time).strftime("%Y-%m-%dT%H:%M:%SZ")
