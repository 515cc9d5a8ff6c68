"""Cursors in a list of records, newest first, and positions in a log that numbers its events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Record

Cursor = tuple[float, str]
"""``create_time`` and id of the last record of a page."""


def newest_first(records: Iterable[Record]) -> list[Record]:
    """The records by ``create_time``, newest first, then by id, last first."""
    return sorted(records, key=lambda record: (record.create_time, record.id), reverse=True)


def cursor_of(record: Record) -> str:
    """The cursor of a page that ends with this record, as text."""
    return cursor_text((record.create_time, record.id))


def cursor_text(cursor: Cursor) -> str:
    """A cursor as text."""
    return f"{cursor[0]!r} {cursor[1]}"


def parse_cursor(text: str) -> Cursor | None:
    """The inverse of ``cursor_text``; None for the first page.

    Raises:
        AuthError: ARGUMENT_INVALID.
    """
    if not text:
        return None
    time, separator, session_id = text.partition(" ")
    try:
        create_time = float(time)
        # Redis rejects a bound that is no number, which would look like a failure of the store.
        if not (separator and session_id and math.isfinite(create_time)):
            raise ValueError
        return create_time, session_id
    except ValueError:
        raise AuthError(Reason.ARGUMENT_INVALID, "not a page token of this list") from None


def after_cursor(text: str) -> Callable[[Record], bool]:
    """Whether a record comes after the cursor.

    Raises:
        AuthError: ARGUMENT_INVALID.
    """
    cursor = parse_cursor(text)
    if cursor is None:
        return lambda record: True
    return lambda record: (record.create_time, record.id) < cursor


def end_of_prefix(prefix: str) -> str:
    """A text that sorts after every id with this prefix, and before every other id that sorts after
    them: ids are ASCII."""
    return prefix + "\x80"


def parse_position(text: str) -> int:
    """A position in a log that numbers its events.

    Raises:
        AuthError: ARGUMENT_INVALID.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise AuthError(Reason.ARGUMENT_INVALID, "not a position of this log")
    return int(text)
