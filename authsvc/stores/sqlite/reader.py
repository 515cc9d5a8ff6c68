"""Reads from the file, through a cache that the log in the file keeps current."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from authsvc.domain.errors import AuthError
from authsvc.domain.events import EventType
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore
from authsvc.stores.documents import Document
from authsvc.stores.record_cache import RecordCache
from authsvc.stores.sqlite.schema import (
    EVENT_COLUMNS,
    RECORD_COLUMNS,
    connect_read_only,
    connect_reader,
    decoded_record,
    logged_of,
    unavailable,
)

CATCH_UP_LIMIT = 1_000
"""Events that are applied one by one; if there are more, the cache is cleared instead."""

CHECK_SECONDS = 0.005
"""How old the cache may be when it answers a caller that has seen no write: a hundredth of the
staleness bound. A check for other processes' writes costs as much as a resolve from the cache."""

_RECORD = f"SELECT {RECORD_COLUMNS} FROM sessions WHERE id = ?"  # noqa: S608 - a constant
_DOCUMENT = "SELECT revision, content FROM documents WHERE name = ?"
_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608

Row = tuple[Any, ...]


class Reader:
    """The event loop's own connection to the file.

    Attributes:
        cache: records and not-befores; current after ``catch_up``.
        position: ``seq`` of the last event that the cache reflects.

    Args:
        path: the database file.
        cached: how many records are cached.

    Raises:
        AuthError: STORE_UNAVAILABLE: a later version has written the file.
        OSError: it cannot be opened; ``sqlite3.Error`` likewise.
    """

    def __init__(self, path: Path, cached: int) -> None:
        self.cache = RecordCache(cached)
        self.position = 0
        self._path = path
        self._closed = False
        self._data_version = -1
        self._checked_until = 0.0
        self._connection = connect_reader(path)
        self._rebuild()

    def record(self, session_id: str) -> Record | None:
        """The record in the file.

        Raises:
            AuthError: STORE_UNAVAILABLE, as for all that follows.
        """
        rows = self._rows(_RECORD, session_id)
        return decoded_record(self._path, rows[0]) if rows else None

    def document(self, name: str) -> Document | None:
        """The document in the file."""
        rows = self._rows(_DOCUMENT, name)
        return Document(*rows[0]) if rows else None

    def is_received(self, key: str) -> bool:
        """Whether the file has a key of a received message."""
        return bool(self._rows("SELECT 1 FROM received WHERE key = ?", key))

    def events(self, after: int, count: int) -> list[Row]:
        """Rows of events with a ``seq`` above ``after``, the oldest ``count`` of them."""
        return self._rows(_EVENTS, after, count)

    def is_current(self, consistency_token: str) -> bool:
        """Whether the cache may answer. It is as old as ``CHECK_SECONDS`` at most.

        Args:
            consistency_token: of a caller; if there is one, the cache is brought up to date.
        """
        if not consistency_token and time.monotonic() < self._checked_until:
            return not self._closed
        try:
            self.catch_up()
        except AuthError:
            return False
        return True

    def expect_writes(self) -> None:
        """This process has written: the next ``is_current`` brings the cache up to date."""
        self._checked_until = 0.0

    def catch_up(self) -> None:
        """Apply the events that any process has written since the last time."""
        self._checked_until = 0.0
        # Before the events are read: a write between the two statements is found the next time.
        ((data_version,),) = self._rows("PRAGMA data_version")
        if data_version == self._data_version:
            self._checked_until = time.monotonic() + CHECK_SECONDS
            return
        rows = self.events(self.position, CATCH_UP_LIMIT)
        if len(rows) == CATCH_UP_LIMIT or (rows and rows[0][0] > self.position + 1):
            self._rebuild()
        for row in rows:
            self._apply(row)
        self._data_version = data_version

    def check_open(self) -> None:
        """
        Raises:
            AuthError: STORE_UNAVAILABLE: it is closed.
        """
        if self._closed:
            raise unavailable("the store is closed")

    def mark_closed(self) -> None:
        """Answer nothing from now on."""
        self._closed = True

    def close(self) -> None:
        """Close the connection."""
        self.mark_closed()
        self._connection.close()

    def _apply(self, row: Row) -> None:
        seq, number, _, session_id, create_time, revision, _ = row
        if seq <= self.position:
            return
        self.position = seq
        if number == EventType.TOKENS_REVOKED.value:
            if (not_before := logged_of(row).event.not_before) is not None:
                self.cache.not_befores.add(not_before)
        elif number == EventType.EXPIRED.value:
            self.cache.removed(session_id)
        elif number != EventType.SUBJECT_MISMATCH.value:
            self.cache.written(session_id, (create_time, revision))

    def _rebuild(self) -> None:
        """Evict all records, and read all not-befores."""
        self.cache.clear()
        ((self.position,),) = self._rows("SELECT coalesce(max(seq), 0) FROM events")
        for row in self._rows(
            "SELECT time, set_time, issuer, subject, token_id, provider_session FROM not_befores"
        ):
            self.cache.not_befores.add(NotBefore(*row))

    def _rows(self, statement: str, *values: object) -> list[Row]:
        self.check_open()
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(f"{self._path}: {error}") from None


def read_document(path: Path, name: str) -> Document | None:
    """A document in a file that another process may use; None if the file or the document is not
    there. Changes nothing.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    if not path.exists():
        return None
    try:
        with closing(connect_read_only(path)) as connection:
            rows = connection.execute(_DOCUMENT, (name,)).fetchall()
    except sqlite3.Error as error:
        raise unavailable(f"{path}: {error}") from None
    return Document(*rows[0]) if rows else None
