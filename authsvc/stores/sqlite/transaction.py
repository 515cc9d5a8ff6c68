"""The writes of one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from authsvc.domain.events import EventType, SessionEvent, event_time
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore
from authsvc.stores.codec import encode_not_before, encode_record
from authsvc.stores.documents import Document
from authsvc.stores.sqlite.schema import RECORD_COLUMNS, WRITTEN_COLUMNS, record_of, row_of

SWEEP_CHUNK = 1_000
"""Records that one transaction of a sweep removes, so that other writes do not wait for long."""

TRIM_INTERVAL = 1_000
"""Events after which the oldest ones are deleted."""


_INSERT = (
    f"INSERT INTO sessions ({WRITTEN_COLUMNS}) "  # noqa: S608 - a constant
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

_RENEW = (
    "UPDATE sessions SET revision = ?, last_seen_time = ?, expire_time = ?, grants = ?, "
    "revoke_time = ?, state = ? WHERE id = ? AND revision = ? AND create_time = ? "
    "AND issuer = ? AND subject = ?"
)

_UPDATE = (
    f"UPDATE sessions SET ({WRITTEN_COLUMNS}) = "  # noqa: S608 - a constant
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ? AND revision = ? AND create_time <= ?"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the file may grow to.

    Attributes:
        unauthenticated_cap: unauthenticated records.
        events_kept: events of the log.
    """

    unauthenticated_cap: int
    events_kept: int


class Transaction:
    """One transaction of the writer; each write is one statement or two.

    Args:
        connection: in which the transaction has begun.
        bounds: on what the file may grow to.
    """

    def __init__(self, connection: sqlite3.Connection, bounds: Bounds) -> None:
        self._connection = connection
        self._bounds = bounds
        self._may_exceed_cap = False
        self.removed: list[Record] = []
        """The records that it removes."""
        self._last_event = 0

    def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        if not self._write(record):
            return None
        self._may_exceed_cap |= not record.authenticated
        return self.append(SessionEvent(event, event_time(event, record), record))

    def _write(self, record: Record) -> bool:
        """Write a record if what is stored is its predecessor; whether it was."""
        row = row_of(record)
        if record.revision == 1:
            return self._connection.execute(_INSERT, row).rowcount == 1
        predecessor = (record.id, record.revision - 1, record.create_time)
        # Most writes change no column of three indexes, which SQLite would write all the same.
        who = (record.issuer, record.subject)
        values = (record.revision, record.last_seen_time, record.expire_time, *row[7:])
        if self._connection.execute(_RENEW, (*values, *predecessor, *who)).rowcount == 1:
            return True
        return self._connection.execute(_UPDATE, (*row, *predecessor)).rowcount == 1

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
            "WHERE id IN (SELECT id FROM sessions WHERE state IN (0, 1, 2) AND expire_time <= ? "
            "LIMIT ?)",
            (now, SWEEP_CHUNK),
        )

    def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        self._connection.execute(
            "INSERT INTO not_befores "
            "(issuer, subject, token_id, provider_session, time, set_time) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET time = excluded.time, set_time = excluded.set_time WHERE excluded.time >= time",
            (*not_before.key, not_before.time, not_before.set_time),
        )
        return self.append(
            SessionEvent(EventType.TOKENS_REVOKED, not_before.set_time, not_before=not_before)
        )

    def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        self._connection.execute("DELETE FROM not_befores WHERE set_time < ?", (set_before,))

    def put_document(self, name: str, document: Document) -> bool:
        """See ``DocumentStore.put_document``."""
        statement = (
            "INSERT INTO documents (revision, content, name) VALUES (?, ?, ?) "
            "ON CONFLICT DO NOTHING"
            if document.revision == 1
            else "UPDATE documents SET revision = ?, content = ? WHERE name = ? AND revision = ?"
        )
        predecessor = () if document.revision == 1 else (document.revision - 1,)
        values = (document.revision, document.content, name, *predecessor)
        return self._connection.execute(statement, values).rowcount == 1

    def mark_received(self, key: str, until: float) -> None:
        """See ``ReceivedStore.mark_received``."""
        self._connection.execute(
            "INSERT INTO received (key, until) VALUES (?, ?) "
            "ON CONFLICT DO UPDATE SET until = max(until, excluded.until)",
            (key, until),
        )

    def sweep_received(self, now: float) -> int:
        """Remove keys of received messages, ``SWEEP_CHUNK`` at most; returns how many were."""
        return self._connection.execute(
            "DELETE FROM received WHERE key IN (SELECT key FROM received WHERE until <= ? LIMIT ?)",
            (now, SWEEP_CHUNK),
        ).rowcount

    def append(self, event: SessionEvent) -> str:
        """Log an event.

        Returns:
            Its position.
        """
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
            self.removed.append(record)
            self.append(
                SessionEvent(EventType.EXPIRED, event_time(EventType.EXPIRED, record), record)
            )
        return len(rows)


def _identity(record: Record) -> tuple[str, int, float]:
    return record.id, record.revision, record.create_time
