"""Text of somebody else's, before a terminal or a reader of logs sees it."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with what cannot be printed as escapes: control characters (C0 and C1, so escape
    sequences), line and paragraph separators, what turns text around, what is invisible."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)


def printable_lines(text: str, *, indent: str = "    ") -> str:
    """The same for a text of several lines: no line but the first begins where a new entry would.

    Args:
        text: lines with ``\\n`` between.
        indent: what the others begin with.
    """
    return f"\n{indent}".join(map(printable, text.split("\n")))
