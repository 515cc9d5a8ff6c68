"""The thread that writes: all that has queued, in one transaction (group commit)."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from authsvc.domain.errors import AuthError
from authsvc.domain.events import Event, EventType, event_time
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore
from authsvc.stores.codec import encode_not_before, encode_record
from authsvc.stores.sqlite.schema import RECORD_COLUMNS, connect, record_of, row_of, unavailable

ResultT = TypeVar("ResultT")

MAX_QUEUED_WRITES = 10_000
"""Beyond it writes are refused: a disk that cannot keep up must not fill the memory."""

SWEEP_CHUNK = 1_000
"""Records that one transaction of a sweep removes, so that other writes get their turn."""

TRIM_INTERVAL = 1_000
"""The log is cut to its length after so many events."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the file may grow to: unauthenticated records, and events."""

    unauthenticated_cap: int
    events_kept: int


class Transaction:
    """The writes, each one statement or two, inside the writer's transaction."""

    def __init__(self, connection: sqlite3.Connection, bounds: Bounds) -> None:
        self._connection = connection
        self._bounds = bounds
        self._may_exceed_cap = False
        self._last_event = 0

    def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        row = row_of(record)
        if record.revision == 1:
            statement = (
                f"INSERT INTO sessions ({RECORD_COLUMNS}) "  # noqa: S608 - a constant
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            )
            written = self._connection.execute(statement, row).rowcount == 1
        else:
            statement = (
                f"UPDATE sessions SET ({RECORD_COLUMNS}) = "  # noqa: S608 - a constant
                "(?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ? AND revision = ? AND create_time <= ?"
            )
            key = (record.id, record.revision - 1, record.create_time)
            written = self._connection.execute(statement, (*row, *key)).rowcount == 1
        if not written:
            return None
        self._may_exceed_cap |= not record.authenticated
        return self.append(Event(event, event_time(event, record), record))

    def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        self._connection.execute(
            "UPDATE sessions SET last_seen_time = ?, expire_time = ? "
            "WHERE id = ? AND revision = ? AND create_time = ?",
            (record.last_seen_time, record.expire_time, *_identity(record)),
        )

    def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        self._expire("WHERE id = ? AND revision = ? AND create_time = ?", _identity(record))

    def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``; ``SWEEP_CHUNK`` records at most."""
        return self._expire(
            "WHERE id IN (SELECT id FROM sessions WHERE expire_time <= ? LIMIT ?)",
            (now, SWEEP_CHUNK),
        )

    def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        self._connection.execute(
            "INSERT INTO not_befores (issuer, subject, token_id, time, set_time) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET time = excluded.time, set_time = excluded.set_time WHERE excluded.time >= time",
            (*not_before.key, not_before.time, not_before.set_time),
        )
        return self.append(
            Event(EventType.TOKENS_REVOKED, not_before.set_time, not_before=not_before)
        )

    def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        self._connection.execute("DELETE FROM not_befores WHERE set_time < ?", (set_before,))

    def append(self, event: Event) -> str:
        """Log an event; its position."""
        record, not_before = event.record, event.not_before
        if record is not None:
            session_id, create_time, revision = record.id, record.create_time, record.revision
            body = encode_record(record)
        else:
            session_id, create_time, revision = "", 0.0, 0
            body = encode_not_before(not_before) if not_before else ""
        cursor = self._connection.execute(
            "INSERT INTO events (type, time, session_id, create_time, revision, body) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (event.type.value, event.time, session_id, create_time, revision, body),
        )
        self._last_event = cursor.lastrowid or 0
        if self._last_event % TRIM_INTERVAL == 0:
            oldest = self._last_event - self._bounds.events_kept
            self._connection.execute("DELETE FROM events WHERE seq <= ?", (oldest,))
        return str(self._last_event)

    def trim(self) -> None:
        """Remove the unauthenticated records beyond the cap, once for the whole transaction."""
        if not self._may_exceed_cap:
            return
        (count,) = self._connection.execute(
            "SELECT count(*) FROM sessions WHERE subject = ''"
        ).fetchone()
        excess = count - self._bounds.unauthenticated_cap
        if excess > 0:
            self._expire(
                "WHERE rowid IN (SELECT rowid FROM sessions "
                "WHERE subject = '' ORDER BY create_time, rowid LIMIT ?)",
                (excess,),
            )

    def _expire(self, where: str, values: tuple[object, ...]) -> int:
        rows = self._connection.execute(
            f"DELETE FROM sessions {where} RETURNING {RECORD_COLUMNS}",  # noqa: S608 - constants
            values,
        ).fetchall()
        for row in rows:
            record = record_of(row)
            self.append(Event(EventType.EXPIRED, event_time(EventType.EXPIRED, record), record))
        return len(rows)


@dataclass(frozen=True, slots=True)
class _Write:
    operation: Callable[[Transaction], Any]
    done: asyncio.Future[Any] | None


class Writer:
    """Carries out what is queued, in the order that it came."""

    def __init__(self, path: Path, bounds: Bounds, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._queue: queue.Queue[_Write | None] = queue.Queue(MAX_QUEUED_WRITES)
        self._bounds = bounds
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Transaction], ResultT]) -> ResultT:
        """Have ``operation`` carried out, and its outcome once it is on disk.

        Raises:
            AuthError: STORE_UNAVAILABLE; nothing of it has been written then.
        """
        done: asyncio.Future[ResultT] = self._loop.create_future()
        self.submit(operation, done)
        return await done

    def submit(
        self,
        operation: Callable[[Transaction], ResultT],
        done: asyncio.Future[ResultT] | None = None,
    ) -> None:
        """Have ``operation`` carried out.

        Raises:
            AuthError: STORE_UNAVAILABLE: closed, or too much is queued.
        """
        if self._closed:
            raise unavailable("the store is closed")
        try:
            self._queue.put_nowait(_Write(operation, done))
        except queue.Full:
            raise unavailable(f"{MAX_QUEUED_WRITES} writes are waiting") from None

    async def close(self) -> None:
        """Carry out what is queued, and end."""
        self._closed = True
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        connection = connect(self._path)
        try:
            while (first := self._queue.get()) is not None:
                batch, ended = [first], False
                while not self._queue.empty():
                    item = self._queue.get_nowait()
                    if item is None:
                        ended = True
                        break
                    batch.append(item)
                self._commit(connection, batch)
                if ended:
                    return
        finally:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Write]) -> None:
        transaction = Transaction(connection, self._bounds)
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [write.operation(transaction) for write in batch]
            transaction.trim()
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread goes on
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = unavailable(f"{self._path}: {error}")
            self._loop.call_soon_threadsafe(_fail, batch, failure)
        else:
            self._loop.call_soon_threadsafe(_succeed, batch, results)


def _succeed(batch: list[_Write], results: list[Any]) -> None:
    for write, result in zip(batch, results, strict=True):
        if write.done is not None and not write.done.done():
            write.done.set_result(result)


def _fail(batch: list[_Write], failure: AuthError) -> None:
    for write in batch:
        if write.done is not None and not write.done.done():
            write.done.set_exception(AuthError(failure.reason, failure.detail))


def _identity(record: Record) -> tuple[str, int, float]:
    return record.id, record.revision, record.create_time
