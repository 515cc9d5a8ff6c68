"""Escapes untrusted text for terminals and logs."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with every unprintable character as an escape: control characters (C0 and C1, so
    terminal sequences), line and paragraph separators, bidirectional controls, invisible ones."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def printable_lines(text: str, *, indent: str = "    ") -> str:
    """As ``printable``, for several lines. All but the first are indented, so that none looks like
    a log entry of its own.

    Args:
        text: lines with ``\\n`` between.
        indent: the indentation.
    """
    return f"\n{indent}".join(map(printable, text.split("\n")))
