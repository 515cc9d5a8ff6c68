"""Lists of records, newest first."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from authsvc.domain.events import RecordFilter
from authsvc.domain.record import Record
from authsvc.stores import Page
from authsvc.stores.paging import cursor_of, parse_cursor
from authsvc.stores.sqlite.schema import (
    RECORD_COLUMNS,
    connect_read_only,
    decoded_record,
    unavailable,
)

SCAN_LIMIT = 10_000
"""Records that are examined for one page."""


def read_page(path: Path, which: RecordFilter, *, after: str, size: int) -> Page:
    """See ``SessionStore.page``. For a thread of its own, since it may examine many records.

    Args:
        path: the database file.
        which: what the records have to match.
        after: the last page's ``next``; empty for the first page.
        size: how many records, at most.

    Raises:
        AuthError: STORE_UNAVAILABLE: the file cannot be read; ARGUMENT_INVALID: ``after`` is not a
            page token.
    """
    statement, values = _statement(which, after)
    found: list[Record] = []
    scanned = 0
    try:
        with closing(connect_read_only(path)) as connection:
            for row in connection.execute(statement, values):
                scanned += 1
                record = decoded_record(path, row)
                if which.matches(record):
                    found.append(record)
                if len(found) == size or scanned == SCAN_LIMIT:
                    return Page(found, cursor_of(record))
    except sqlite3.Error as error:
        raise unavailable(f"{path}: {error}") from None
    return Page(found, "")


def _statement(which: RecordFilter, after: str) -> tuple[str, tuple[object, ...]]:
    # Indexes serve the order and the subject; ``which`` is applied to the rest.
    conditions = ["1 = 1"]
    values: list[object] = []
    if (cursor := parse_cursor(after)) is not None:
        conditions.append("(create_time, id) < (?, ?)")
        values += cursor
    if which.issuer and which.subject:
        conditions.append("issuer = ? AND subject = ? AND subject != ''")
        values += [which.issuer, which.subject]
    statement = (
        f"SELECT {RECORD_COLUMNS} FROM sessions WHERE {' AND '.join(conditions)} "  # noqa: S608
        f"ORDER BY create_time DESC, id DESC LIMIT {SCAN_LIMIT}"
    )
    return statement, tuple(values)
