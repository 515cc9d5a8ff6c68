"""The store over the file: reads from the cache or the file, writes by the writer's thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.domain.service_status import SessionCounts, StoreSpace
from authsvc.stores import LoggedEvent, OnRemoved, Page, ignore_removed
from authsvc.stores.documents import Document
from authsvc.stores.paging import parse_position
from authsvc.stores.sqlite.listing import read_counts, read_page
from authsvc.stores.sqlite.reader import Reader
from authsvc.stores.sqlite.schema import logged_of, unavailable
from authsvc.stores.sqlite.space import read_space
from authsvc.stores.sqlite.transaction import Bounds, Transaction
from authsvc.stores.sqlite.writer import Writer

ResultT = TypeVar("ResultT")

WATCH_INTERVAL_SECONDS = 0.05
"""How often a watcher looks for new events."""

WATCH_CHUNK = 500
"""Events that a watcher reads at once."""

SUBJECT_CHUNK = 1_000
"""Records of a subject that are read at once."""


class SqliteStore:
    """See ``SessionStore``. Made by ``open``, on the event loop that uses it."""

    def __init__(self, path: Path, reader: Reader, writer: Writer) -> None:
        self._path = path
        self._reader = reader
        self._cache = reader.cache
        self._writer = writer
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        unauthenticated_cap: int,
        events_kept: int = 100_000,
        cached_sessions: int = 100_000,
        on_removed: OnRemoved = ignore_removed,
    ) -> Self:
        """Open the file. It is made if it is missing.

        Args:
            path: the database file; only its owner may read it.
            unauthenticated_cap: how many unauthenticated records are kept.
            events_kept: how many events are kept.
            cached_sessions: how many records are cached in memory.
            on_removed: is called with each record that this process removes.

        Raises:
            AuthError: STORE_UNAVAILABLE: the file cannot be used; ``detail`` says why.
        """
        try:
            reader = Reader(path, cached_sessions)
            bounds = Bounds(unauthenticated_cap, events_kept)
            writer = Writer(path, bounds, asyncio.get_running_loop(), on_removed)
            return cls(path, reader, writer)
        except (OSError, sqlite3.Error) as error:
            raise unavailable(f"{path}: {error}") from None

    @property
    def ready(self) -> bool:
        """See ``SessionStore.ready``."""
        return not self._closed

    async def server_times(self) -> tuple[float, ...]:
        """See ``SessionStore.server_times``: its clock is this machine's."""
        return ()

    def cached_record(self, session_id: str, consistency_token: str = "") -> Record | None:
        """See ``SessionStore.cached_record``."""
        return self._cache.get(session_id) if self._reader.is_current(consistency_token) else None

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        self._reader.catch_up()
        record = self._reader.record(session_id)
        if record is not None:
            self._cache.put(record)
        return record

    async def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        with self._cache.fetch(record.id) as fetch:
            try:
                token = await self._writer.run(lambda transaction: transaction.put(record, event))
                if token is not None:
                    fetch.put(record)
            except AuthError:
                self._reader.expect_writes()
                raise
        if token is None or not record.authenticated:
            # Another write came first, or others may have been removed to stay within the cap.
            self._reader.expect_writes()
        return token

    async def confirm(self, record: Record) -> None:
        """See ``SessionStore.confirm``. Every record that can be read is on disk."""
        self._reader.check_open()

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        with suppress(AuthError):
            self._writer.submit(lambda transaction: transaction.touch(record))
            self._cache.touch(record)

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        await self._write(lambda transaction: transaction.remove(record))

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        total = 0
        while removed := await self._write(lambda transaction: transaction.sweep(now)):
            total += removed
        while await self._writer.run(lambda transaction: transaction.sweep_received(now)):
            pass
        return total

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """See ``SessionStore.page``."""
        self._reader.check_open()
        return await asyncio.to_thread(read_page, self._path, which, after=after, size=size)

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        """See ``SessionStore.records_of``."""
        which = RecordFilter(issuer=issuer, subject=subject)
        found: list[Record] = []
        cursor = ""
        while len(found) < most:
            page = await self.page(which, after=cursor, size=min(SUBJECT_CHUNK, most - len(found)))
            found += page.records
            cursor = page.next
            if not cursor:
                break
        return found

    async def count(self, now: float) -> SessionCounts:
        """See ``SessionStore.count``."""
        self._reader.check_open()
        return await asyncio.to_thread(read_counts, self._path, now)

    async def space(self) -> StoreSpace | None:
        """See ``SessionStore.space``. A disk that hangs holds a thread, and not the loop."""
        self._reader.check_open()
        return await asyncio.to_thread(read_space, self._path.parent)

    async def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        return await self._write(lambda transaction: transaction.set_not_before(not_before))

    def cached_not_befores(self, consistency_token: str = "") -> NotBefores | None:
        """See ``SessionStore.cached_not_befores``."""
        return self._cache.not_befores if self._reader.is_current(consistency_token) else None

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """See ``SessionStore.get_not_befores``."""
        self._reader.catch_up()
        return self._cache.not_befores

    async def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        await self._write(lambda transaction: transaction.delete_not_befores(set_before))
        self._cache.not_befores.drop(set_before)

    async def document(self, name: str) -> Document | None:
        """See ``DocumentStore.document``."""
        return self._reader.document(name)

    async def confirm_document(self, name: str) -> None:
        """See ``DocumentStore.confirm_document``. Every document that can be read is on disk."""
        self._reader.check_open()

    async def put_document(self, name: str, document: Document) -> bool:
        """See ``DocumentStore.put_document``."""
        return await self._writer.run(lambda transaction: transaction.put_document(name, document))

    async def is_received(self, key: str) -> bool:
        """See ``ReceivedStore.is_received``."""
        return self._reader.is_received(key)

    async def mark_received(self, key: str, until: float) -> None:
        """See ``ReceivedStore.mark_received``."""
        await self._writer.run(lambda transaction: transaction.mark_received(key, until))

    async def append(self, event: SessionEvent) -> None:
        """See ``SessionStore.append``."""
        with suppress(AuthError):
            self._writer.submit(lambda transaction: transaction.append(event))

    async def position(self) -> str:
        """See ``SessionStore.position``."""
        self._reader.catch_up()
        return str(self._reader.position)

    async def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        """See ``SessionStore.watch``."""
        self._reader.catch_up()
        last = self._reader.position
        if position:
            last = parse_position(position)
            if last > self._reader.position:
                raise AuthError(Reason.ARGUMENT_INVALID, "not a position of this log")
        while True:
            rows = self._reader.events(last, WATCH_CHUNK)
            for row in rows:
                last = row[0]
                yield logged_of(row)
            if not rows:
                await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        if not self._closed:
            self._closed = True
            self._reader.mark_closed()
            await self._writer.close()
            self._reader.close()

    async def _write(self, operation: Callable[[Transaction], ResultT]) -> ResultT:
        try:
            return await self._writer.run(operation)
        finally:
            self._reader.expect_writes()
