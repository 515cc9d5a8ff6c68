"""Lists of records, newest first, and the number of all records."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from authsvc.domain.events import RecordFilter
from authsvc.domain.record import Record
from authsvc.domain.service_status import SessionCounts
from authsvc.stores import Page
from authsvc.stores.paging import cursor_of, end_of_prefix, parse_cursor
from authsvc.stores.sqlite.schema import (
    RECORD_COLUMNS,
    connect_read_only,
    decoded_record,
    unavailable,
)

SCAN_LIMIT = 10_000
"""Records that are examined for one page. A prefix that more ids have is no help: their records
are found by examining all."""

COUNT = """
SELECT
    (SELECT count(*) FROM sessions),
    (SELECT count(*) FROM sessions WHERE state = 0 AND expire_time <= :now),
    (SELECT count(*) FROM sessions WHERE state = 1 AND expire_time <= :now),
    (SELECT count(*) FROM sessions WHERE state = 2 AND expire_time <= :now),
    (SELECT count(*) FROM sessions WHERE state = 0),
    (SELECT count(*) FROM sessions WHERE state = 2)
"""
"""Counts the authenticated records as all but the others: SQLite counts a whole table by its pages,
and the rows of a condition one by one. All in one statement, and so of one moment."""

ID_HAS_PREFIX = "id >= ? AND id < ?"


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
    found: list[Record] = []
    scanned = 0
    try:
        with closing(connect_read_only(path)) as connection:
            statement, values = _statement(connection, which, after)
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


def read_counts(path: Path, now: float) -> SessionCounts:
    """See ``SessionStore.count``. For a thread of its own: it reads an index of all records.

    Raises:
        AuthError: STORE_UNAVAILABLE: the file cannot be read.
    """
    try:
        with closing(connect_read_only(path)) as connection:
            ((total, *expired, unauthenticated, revoked),) = connection.execute(COUNT, {"now": now})
    except sqlite3.Error as error:
        raise unavailable(f"{path}: {error}") from None
    return SessionCounts(
        unauthenticated=unauthenticated - expired[0],
        authenticated=total - unauthenticated - revoked - expired[1],
        revoked=revoked - expired[2],
    )


def _statement(
    connection: sqlite3.Connection, which: RecordFilter, after: str
) -> tuple[str, tuple[object, ...]]:
    """The statement that finds the records in order, and its values.

    Indexes serve the order, the subject and the prefix. The filter is applied to the rest.
    """
    conditions = ["1 = 1"]
    values: list[object] = []
    cursor = parse_cursor(after)
    if which.issuer and which.subject:
        conditions.append("issuer = ? AND subject = ? AND subject != ''")
        values += [which.issuer, which.subject]
    elif which.id_prefix and _few_have(connection, which.id_prefix):
        conditions.append(ID_HAS_PREFIX)
        values += _bounds(which.id_prefix)
    if cursor is not None:
        conditions.append("(create_time, id) < (?, ?)")
        values += cursor
    statement = (
        f"SELECT {RECORD_COLUMNS} FROM sessions WHERE {' AND '.join(conditions)} "  # noqa: S608
        f"ORDER BY create_time DESC, id DESC LIMIT {SCAN_LIMIT}"
    )
    return statement, tuple(values)


def _few_have(connection: sqlite3.Connection, prefix: str) -> bool:
    """Whether so few ids have a prefix that their records can be sorted for each page."""
    statement = f"SELECT count(*) FROM (SELECT 1 FROM sessions WHERE {ID_HAS_PREFIX} LIMIT ?)"  # noqa: S608 - a constant
    ((count,),) = connection.execute(statement, (*_bounds(prefix), SCAN_LIMIT + 1))
    return bool(count <= SCAN_LIMIT)


def _bounds(prefix: str) -> tuple[str, str]:
    return prefix, end_of_prefix(prefix)
