"""The store over the file: reads, and what is remembered of them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import Event, EventType, RecordFilter
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.stores import Logged, Page
from authsvc.stores.paging import cursor_of, parse_cursor, parse_position
from authsvc.stores.recent import Recent
from authsvc.stores.sqlite.schema import (
    EVENT_COLUMNS,
    RECORD_COLUMNS,
    connect_reader,
    logged_of,
    record_of,
    unavailable,
)
from authsvc.stores.sqlite.writer import Bounds, Transaction, Writer

ResultT = TypeVar("ResultT")

CATCH_UP_LIMIT = 1_000
"""Events that are applied one by one; beyond it what is remembered is forgotten instead."""

SCAN_LIMIT = 10_000
"""Records that one page looks at."""

LOOK_SECONDS = 0.005
"""How long what other processes write may go unnoticed where that is good enough: a hundredth of
what is published, and the look costs as much as a resolve from memory."""

WATCH_INTERVAL_SECONDS = 0.05
"""How often a watcher looks for events of other processes."""

WATCH_CHUNK = 500
"""Events that a watcher reads at once."""

_RECORD = f"SELECT {RECORD_COLUMNS} FROM sessions WHERE id = ?"  # noqa: S608 - a constant
_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608


class SqliteStore:
    """See ``SessionStore``. Made by ``open``, on the event loop that it is used on."""

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: Writer, cached: int) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._closed = False
        self._recent = Recent(cached)
        self._data_version = -1
        self._look_time = 0.0
        self._position = 0
        self._begin_anew()

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        unauthenticated_cap: int,
        events_kept: int = 100_000,
        cached_sessions: int = 100_000,
    ) -> Self:
        """Open the file, and make it where it is missing.

        Args:
            path: the database file; only its owner gets to read it.
            unauthenticated_cap: how many unauthenticated records are kept.
            events_kept: how many events.
            cached_sessions: how many records are remembered in memory.

        Raises:
            AuthError: STORE_UNAVAILABLE: the file cannot be used; ``detail`` says why.
        """
        try:
            reader = connect_reader(path)
            bounds = Bounds(unauthenticated_cap, events_kept)
            return cls(
                path, reader, Writer(path, bounds, asyncio.get_running_loop()), cached_sessions
            )
        except (OSError, sqlite3.Error) as error:
            raise unavailable(f"{path}: {error}") from None

    @property
    def ready(self) -> bool:
        """See ``SessionStore.ready``."""
        return not self._closed

    def recall(self, session_id: str, seen: str = "") -> Record | None:
        """See ``SessionStore.recall``."""
        return self._recent.get(session_id) if self._may_recall(seen) else None

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        self._catch_up()
        rows = self._read(_RECORD, session_id)
        if not rows:
            return None
        record = self._decoded(rows[0])
        self._recent.remember(record)
        return record

    async def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        with self._recent.fetch(record.id) as fetch:
            token = await self._run(lambda work: work.put(record, event))
            if token is not None:
                fetch.keep(record)
        return token

    async def confirm(self, record: Record) -> None:
        """See ``SessionStore.confirm``. What can be read is safe."""
        self._check_open()

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        with suppress(AuthError):
            self._writer.submit(lambda work: work.touch(record))
            self._recent.touch(record)

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        await self._run(lambda work: work.remove(record))

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        total = 0
        while removed := await self._run(lambda work: work.sweep(now)):
            total += removed
        return total

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """See ``SessionStore.page``."""
        self._check_open()
        statement, values = _listing(which, after)
        return await asyncio.to_thread(self._page, which, statement, values, size)

    async def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        return await self._run(lambda work: work.set_not_before(not_before))

    def cached_not_befores(self, seen: str = "") -> NotBefores | None:
        """See ``SessionStore.cached_not_befores``."""
        return self._recent.not_befores if self._may_recall(seen) else None

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """See ``SessionStore.get_not_befores``."""
        self._catch_up()
        return self._recent.not_befores

    async def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        await self._run(lambda work: work.delete_not_befores(set_before))
        self._recent.not_befores.drop(set_before)

    async def append(self, event: Event) -> None:
        """See ``SessionStore.append``."""
        with suppress(AuthError):
            self._writer.submit(lambda work: work.append(event))

    async def position(self) -> str:
        """See ``SessionStore.position``."""
        self._catch_up()
        return str(self._position)

    async def watch(self, position: str = "") -> AsyncGenerator[Logged, None]:
        """See ``SessionStore.watch``."""
        self._catch_up()
        seen = self._position
        if position:
            seen = parse_position(position)
            if seen > self._position:
                raise AuthError(Reason.ARGUMENT_INVALID, "no position of this log")
        while True:
            rows = self._read(_EVENTS, seen, WATCH_CHUNK)
            for row in rows:
                seen = row[0]
                yield logged_of(row)
            if not rows:
                await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        if not self._closed:
            self._closed = True
            await self._writer.close()
            self._reader.close()

    async def _run(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """Write. What this process has written, it knows at once."""
        try:
            return await self._writer.run(work)
        finally:
            self._look_time = 0.0

    def _may_recall(self, seen: str) -> bool:
        """Whether what is remembered is as the file had it within ``LOOK_SECONDS``; where a caller
        has seen a write, as it has it now."""
        if not seen and time.monotonic() < self._look_time:
            return not self._closed
        try:
            self._catch_up()
        except AuthError:
            return False
        return True

    def _catch_up(self) -> None:
        """Apply what any process has written since the last time.

        Raises:
            AuthError: STORE_UNAVAILABLE.
        """
        self._look_time = 0.0
        # Before the events: what is written between the two is seen the next time.
        ((data_version,),) = self._read("PRAGMA data_version")
        if data_version == self._data_version:
            self._look_time = time.monotonic() + LOOK_SECONDS
            return
        rows = self._read(_EVENTS, self._position, CATCH_UP_LIMIT)
        if len(rows) == CATCH_UP_LIMIT or (rows and rows[0][0] > self._position + 1):
            self._begin_anew()
        for row in rows:
            self._apply(row)
        self._data_version = data_version

    def _apply(self, row: tuple[Any, ...]) -> None:
        seq, number, _, session_id, create_time, revision, _ = row
        if seq <= self._position:
            return
        self._position = seq
        if number == EventType.TOKENS_REVOKED.value:
            if (not_before := logged_of(row).event.not_before) is not None:
                self._recent.not_befores.add(not_before)
        elif number == EventType.EXPIRED.value:
            self._recent.removed(session_id)
        elif number != EventType.SUBJECT_MISMATCH.value:
            self._recent.written(session_id, (create_time, revision))

    def _begin_anew(self) -> None:
        """Forget all records, and read all not-befores."""
        self._recent.clear()
        ((self._position,),) = self._read("SELECT coalesce(max(seq), 0) FROM events")
        for issuer, subject, token_id, until, set_time in self._read(
            "SELECT issuer, subject, token_id, time, set_time FROM not_befores"
        ):
            self._recent.not_befores.add(NotBefore(until, set_time, issuer, subject, token_id))

    def _page(
        self, which: RecordFilter, statement: str, values: tuple[object, ...], size: int
    ) -> Page:
        # In a thread, and so with a connection of its own: it may look at many records.
        found: list[Record] = []
        scanned = 0
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
                for row in connection.execute(statement, values):
                    scanned += 1
                    record = self._decoded(row)
                    if which.matches(record):
                        found.append(record)
                    if len(found) == size or scanned == SCAN_LIMIT:
                        return Page(found, cursor_of(record))
        except sqlite3.Error as error:
            raise unavailable(f"{self._path}: {error}") from None
        return Page(found, "")

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        self._check_open()
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(f"{self._path}: {error}") from None

    def _decoded(self, row: tuple[Any, ...]) -> Record:
        try:
            return record_of(row)
        except ValueError as error:
            raise unavailable(f"{self._path}: {error}") from None

    def _check_open(self) -> None:
        if self._closed:
            raise unavailable("the store is closed")


def _listing(which: RecordFilter, after: str) -> tuple[str, tuple[object, ...]]:
    """The records that a page looks at; indexes serve the order and the subject."""
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
