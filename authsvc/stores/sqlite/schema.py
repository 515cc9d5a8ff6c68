"""The database file: its tables, its connections, and rows as records and events."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, SessionEvent
from authsvc.domain.record import Record
from authsvc.stores import LoggedEvent
from authsvc.stores.codec import (
    decode_grants,
    decode_not_before,
    decode_record,
    encode_grants,
    shared,
)
from authsvc.stores.counting import counted_state

SCHEMA_VERSION = 5
"""``PRAGMA user_version`` of the files that this module writes."""

BUSY_TIMEOUT_SECONDS = 5.0
"""How long a write waits for another process that holds the file."""

RECORD_COLUMNS = (
    "id, revision, create_time, last_seen_time, expire_time, issuer, subject, grants, revoke_time"
)

WRITTEN_COLUMNS = f"{RECORD_COLUMNS}, state"
"""``RECORD_COLUMNS``, and what they make of the record for counts: a ``CountedState``."""

EVENT_COLUMNS = "seq, type, time, session_id, create_time, revision, body"

_MIGRATIONS = (
    """
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
    """,
    """
    CREATE INDEX sessions_by_create_time ON sessions (create_time, id);
    CREATE INDEX sessions_by_subject ON sessions (issuer, subject) WHERE subject != '';
    CREATE TABLE not_befores (
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        token_id TEXT NOT NULL,
        time REAL NOT NULL,
        set_time REAL NOT NULL,
        PRIMARY KEY (issuer, subject, token_id)
    );
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        type INTEGER NOT NULL,
        time REAL NOT NULL,
        session_id TEXT NOT NULL,
        create_time REAL NOT NULL,
        revision INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE documents (
        name TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        content BLOB NOT NULL
    );
    """,
    """
    ALTER TABLE not_befores RENAME TO not_befores_3;
    CREATE TABLE not_befores (
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        token_id TEXT NOT NULL,
        provider_session TEXT NOT NULL,
        time REAL NOT NULL,
        set_time REAL NOT NULL,
        PRIMARY KEY (issuer, subject, token_id, provider_session)
    );
    INSERT INTO not_befores SELECT issuer, subject, token_id, '', time, set_time
        FROM not_befores_3;
    DROP TABLE not_befores_3;
    CREATE TABLE received (
        key TEXT PRIMARY KEY,
        until REAL NOT NULL
    );
    CREATE INDEX received_by_until ON received (until);
    """,
    # A principal session is not revoked while it has a token that was issued later.
    """
    ALTER TABLE sessions ADD COLUMN state INTEGER NOT NULL DEFAULT 1;
    UPDATE sessions SET state = 0 WHERE subject = '';
    UPDATE sessions SET state = 2 WHERE revoke_time IS NOT NULL AND NOT (
        id >= '~' AND EXISTS (
            SELECT 1 FROM json_each(grants, '$.grants')
            WHERE json_extract(value, '$[1]') > revoke_time
        )
    );
    DROP INDEX sessions_by_expire_time;
    CREATE INDEX sessions_by_state ON sessions (state, expire_time);
    """,
)
"""Statements that make each version of the schema from the one before."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection for the calling thread."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    with ExitStack() as failing:
        failing.callback(connection.close)
        _use_wal(connection)
        # FULL, not NORMAL: an acknowledged write survives a loss of power, too.
        connection.execute("PRAGMA synchronous = FULL")
        failing.pop_all()
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite's time-out does not cover a change of the journal mode: while another process creates
    # the same file, the statement fails at once.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection for reads. It makes or updates the schema first.

    Raises:
        AuthError: STORE_UNAVAILABLE: a later version has written the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    connection = connect(path)
    with ExitStack() as failing:
        failing.callback(connection.close)
        _migrate(connection)
        connection.execute("PRAGMA query_only = ON")
        failing.pop_all()
    return connection


def connect_read_only(
    path: Path, *, timeout_seconds: float = BUSY_TIMEOUT_SECONDS
) -> sqlite3.Connection:
    """A connection that changes nothing, not even the schema.

    Args:
        path: of a file that exists.
        timeout_seconds: how long a read waits for another process that holds the file.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=timeout_seconds)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for migration in _MIGRATIONS[version:]:
        for statement in migration.split(";"):
            connection.execute(statement)
    if version < SCHEMA_VERSION:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if version > SCHEMA_VERSION:
        raise unavailable(
            f"its schema is version {version}, and this program knows {SCHEMA_VERSION}"
        )


def row_of(record: Record) -> tuple[object, ...]:
    """``WRITTEN_COLUMNS`` of a record."""
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
        counted_state(record).value,
    )


def record_of(row: tuple[Any, ...]) -> Record:
    """A record from its ``RECORD_COLUMNS``."""
    session_id, revision, created, seen, expires, issuer, subject, grants, revoked = row
    return Record(
        id=session_id,
        revision=revision,
        create_time=created,
        last_seen_time=seen,
        expire_time=expires,
        issuer=shared(issuer),
        subject=subject,
        grants=decode_grants(grants),
        revoke_time=revoked,
    )


def decoded_record(path: Path, row: tuple[Any, ...]) -> Record:
    """As ``record_of``, for a row of a file.

    Raises:
        AuthError: STORE_UNAVAILABLE: a later version has written the row.
    """
    try:
        return record_of(row)
    except ValueError as error:
        raise unavailable(f"{path}: {error}") from None


def logged_of(row: tuple[Any, ...]) -> LoggedEvent:
    """The event of a row with ``EVENT_COLUMNS``."""
    seq, number, time, _, _, _, body = row
    event_type = EventType(number)
    if event_type is EventType.TOKENS_REVOKED:
        return LoggedEvent(
            str(seq), SessionEvent(event_type, time, not_before=decode_not_before(body))
        )
    return LoggedEvent(str(seq), SessionEvent(event_type, time, decode_record(body)))


def unavailable(detail: str, *, is_unanswered: bool = False) -> AuthError:
    """What every method of the store raises when it cannot do its work."""
    return AuthError(Reason.STORE_UNAVAILABLE, detail, is_unanswered=is_unanswered)
