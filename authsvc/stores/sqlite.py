"""Records in an SQLite file: the embedded default.

Reads go straight to a connection of the event loop's own: a few microseconds, without a thread
hop. Writes go to one thread that commits all that have queued in a single transaction (group
commit), so that many writers share one fsync and none of them blocks the loop. A write is on disk
before its caller hears of it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from authsvc.errors import AuthError, Reason
from authsvc.sessions import Record
from authsvc.stores.codec import decode_grants, encode_grants

ResultT = TypeVar("ResultT")

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the files that this module writes."""

MAX_QUEUED_WRITES = 10_000
"""Beyond it writes are refused: a disk that cannot keep up must not fill the memory."""

SWEEP_CHUNK = 1_000
"""Records that one transaction of a sweep removes, so that other writes get their turn."""

BUSY_TIMEOUT_SECONDS = 5.0
"""How long a write waits for another process that holds the file."""

_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    create_time REAL NOT NULL,
    last_seen_time REAL NOT NULL,
    expire_time REAL NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    grants TEXT NOT NULL,
    revoke_time REAL
);
CREATE INDEX sessions_by_expire_time ON sessions (expire_time);
CREATE INDEX unauthenticated ON sessions (create_time) WHERE subject = '';
"""

_COLUMNS = (
    "id, revision, create_time, last_seen_time, expire_time, issuer, subject, grants, revoke_time"
)


class SqliteStore:
    """See ``SessionStore``. Made by ``open``, on the event loop that it is used on."""

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: _Writer) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, unauthenticated_cap: int) -> Self:
        """Open the file, and make it where it is missing.

        Args:
            path: the database file; only its owner gets to read it.
            unauthenticated_cap: how many unauthenticated records are kept.

        Raises:
            AuthError: STORE_UNAVAILABLE: the file cannot be used; ``detail`` says why.
        """
        try:
            reader = _open_reader(path)
            writer = _Writer(path, unauthenticated_cap, asyncio.get_running_loop())
        except (OSError, sqlite3.Error) as error:
            raise _unavailable(f"{path}: {error}") from None
        return cls(path, reader, writer)

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        if self._closed:
            raise _unavailable("the store is closed")
        try:
            row = self._reader.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE id = ?",  # noqa: S608 - a constant
                (session_id,),
            ).fetchone()
            return None if row is None else _record(row)
        except (sqlite3.Error, ValueError) as error:
            raise _unavailable(f"{self._path}: {error}") from None

    async def put(self, record: Record) -> bool:
        """See ``SessionStore.put``."""
        return await self._writer.run(lambda work: work.put(record))

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``. Does not wait for the disk."""
        self._writer.submit(lambda work: work.touch(record), None)

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        await self._writer.run(lambda work: work.remove(record))

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        total = 0
        while removed := await self._writer.run(lambda work: work.sweep(now)):
            total += removed
        return total

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        if not self._closed:
            self._closed = True
            await self._writer.close()
            self._reader.close()


class _Transaction:
    """The writes, each one statement or two, inside the writer's transaction."""

    def __init__(self, connection: sqlite3.Connection, unauthenticated_cap: int) -> None:
        self._connection = connection
        self._cap = unauthenticated_cap
        self._may_exceed_cap = False

    def put(self, record: Record) -> bool:
        row = _row(record)
        if record.revision == 1:
            statement = (
                f"INSERT INTO sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
                "ON CONFLICT DO NOTHING"
            )
            written = self._connection.execute(statement, row).rowcount == 1
        else:
            statement = (
                f"UPDATE sessions SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
                "WHERE id = ? AND revision = ? AND create_time <= ?"
            )
            key = (record.id, record.revision - 1, record.create_time)
            written = self._connection.execute(statement, (*row, *key)).rowcount == 1
        self._may_exceed_cap |= not record.authenticated
        return written

    def touch(self, record: Record) -> None:
        self._connection.execute(
            "UPDATE sessions SET last_seen_time = ?, expire_time = ? "
            "WHERE id = ? AND revision = ? AND create_time = ?",
            (record.last_seen_time, record.expire_time, *_identity(record)),
        )

    def remove(self, record: Record) -> None:
        self._connection.execute(
            "DELETE FROM sessions WHERE id = ? AND revision = ? AND create_time = ?",
            _identity(record),
        )

    def sweep(self, now: float) -> int:
        return self._connection.execute(
            "DELETE FROM sessions WHERE id IN "
            "(SELECT id FROM sessions WHERE expire_time <= ? LIMIT ?)",
            (now, SWEEP_CHUNK),
        ).rowcount

    def trim(self) -> None:
        """Remove the unauthenticated records beyond the cap, once for the whole transaction."""
        if not self._may_exceed_cap:
            return
        (count,) = self._connection.execute(
            "SELECT count(*) FROM sessions WHERE subject = ''"
        ).fetchone()
        if count > self._cap:
            self._connection.execute(
                "DELETE FROM sessions WHERE rowid IN (SELECT rowid FROM sessions "
                "WHERE subject = '' ORDER BY create_time, rowid LIMIT ?)",
                (count - self._cap,),
            )


@dataclass(frozen=True, slots=True)
class _Write:
    operation: Callable[[_Transaction], Any]
    done: asyncio.Future[Any] | None


class _Writer:
    """The thread that writes: all that has queued, in one transaction."""

    def __init__(
        self, path: Path, unauthenticated_cap: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._path = path
        self._loop = loop
        self._queue: queue.Queue[_Write | None] = queue.Queue(MAX_QUEUED_WRITES)
        self._cap = unauthenticated_cap
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[_Transaction], ResultT]) -> ResultT:
        """Have ``operation`` carried out, and its outcome once it is on disk.

        Raises:
            AuthError: STORE_UNAVAILABLE; nothing of it has been written then.
        """
        done: asyncio.Future[ResultT] = self._loop.create_future()
        self.submit(operation, done)
        return await done

    def submit(
        self, operation: Callable[[_Transaction], ResultT], done: asyncio.Future[ResultT] | None
    ) -> None:
        """Have ``operation`` carried out.

        Raises:
            AuthError: STORE_UNAVAILABLE: closed, or too much is queued.
        """
        if self._closed:
            raise _unavailable("the store is closed")
        try:
            self._queue.put_nowait(_Write(operation, done))
        except queue.Full:
            raise _unavailable(f"{MAX_QUEUED_WRITES} writes are waiting") from None

    async def close(self) -> None:
        """Carry out what is queued, and end."""
        self._closed = True
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        connection = _connect(self._path)
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
        transaction = _Transaction(connection, self._cap)
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [write.operation(transaction) for write in batch]
            transaction.trim()
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread goes on
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = _unavailable(f"{self._path}: {error}")
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


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL, not NORMAL: what was acknowledged survives a loss of power, too.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _open_reader(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = _connect(path)
    _prepare(connection)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the schema where there is none.

    Raises:
        AuthError: STORE_UNAVAILABLE: a later version has written the file.
    """
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if version not in (0, SCHEMA_VERSION):
        raise _unavailable(
            f"its schema is version {version}, and this program knows {SCHEMA_VERSION}"
        )


def _identity(record: Record) -> tuple[str, int, float]:
    return record.id, record.revision, record.create_time


def _row(record: Record) -> tuple[object, ...]:
    return (
        record.id,
        record.revision,
        record.create_time,
        record.last_seen_time,
        record.expire_time,
        record.issuer,
        record.subject,
        encode_grants(record.grants),
        record.revoke_time,
    )


def _record(row: tuple[Any, ...]) -> Record:
    session_id, revision, created, seen, expires, issuer, subject, grants, revoked = row
    return Record(
        id=session_id,
        revision=revision,
        create_time=created,
        last_seen_time=seen,
        expire_time=expires,
        issuer=issuer,
        subject=subject,
        grants=decode_grants(grants),
        revoke_time=revoked,
    )


def _unavailable(detail: str) -> AuthError:
    return AuthError(Reason.STORE_UNAVAILABLE, detail)
