"""Stores of session records: one protocol, and one contract suite that every store passes.

A store has records, not-befores, documents, keys of received messages, and a log of events. It
decides nothing and has no clock. Every method raises ``AuthError`` STORE_UNAVAILABLE when the store
cannot be reached or does not answer in time; ``is_unanswered`` says whether a write may have been
made all the same.

Several processes may share one store. Each write appends an event to the store's log, and each
process follows the log to keep its cache current. ``cached_record`` and ``cached_not_befores``
answer from the cache, and only while it is known to be younger than the staleness bound. ``get``
and ``get_not_befores`` ask the store itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.domain.service_status import SessionCounts, StoreSpace
from authsvc.stores.documents import DocumentStore
from authsvc.stores.received import ReceivedStore

STALENESS_BOUND_SECONDS = 0.5
"""How old a process's cache may be when it answers. It is half of the published bound
(docs/sessions.md), since it counts from the last answer of the store."""


OnRemoved = Callable[[str, Record | None], None]
"""Called by a store with each record that it has removed, on the event loop, once that is durable:
by the process that removed it, and by no other. The id, and the record as it was last; None for
one that the server has dropped by its TTL. It must not raise."""


def ignore_removed(session_id: str, record: Record | None) -> None:
    """An ``OnRemoved`` that does nothing."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        records: the newest first.
        next: ``after`` of the next page; empty at the end. A page before the end may have fewer
            records than asked for, or none: each page examines a bounded number of records.
    """

    records: list[Record]
    next: str


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of the log.

    Attributes:
        position: to watch from, for all events after this one. Opaque.
        event: what happened.
    """

    position: str
    event: SessionEvent


class SessionStore(DocumentStore, ReceivedStore, Protocol):
    """Records by id, written under compare-and-set. Safe for concurrent use on one event loop."""

    @property
    def ready(self) -> bool:
        """Whether the store is available, as far as is known without a request to it."""
        ...

    async def server_times(self) -> Collection[float]:
        """The clock of each of its servers, in seconds since the epoch; empty where it has none."""
        ...

    # Records.

    def cached_record(self, session_id: str, consistency_token: str = "") -> Record | None:
        """The record in the cache, no older than the staleness bound.

        Args:
            session_id: of the record.
            consistency_token: of a write that the caller has seen; the record reflects it. Empty
                for none.

        Returns:
            None when the cache has no such record: use ``get``.
        """
        ...

    async def get(self, session_id: str) -> Record | None:
        """The record as last written; None if there is none. Tombstones and expired records are
        included."""
        ...

    async def put(self, record: Record, event: EventType) -> str | None:
        """Write ``record`` if what is stored is its predecessor, and log ``event``.

        The predecessor of revision 1 is no record. The predecessor of revision n is revision n - 1
        of a record that was not created later: a session that was created again under the same id
        is another one. The write is durable when the method returns: a crash of the process does
        not lose it. If there are more unauthenticated records than ``unauthenticated_cap`` of the
        store, the same write removes the ones that were created first, and logs them as EXPIRED.

        Returns:
            The write's consistency token; None when another write came first. Then nothing has
            changed.
        """
        ...

    async def confirm(self, record: Record) -> None:
        """Return once a record that was read is as durable as one that ``put`` has written.

        The record may come from a write that was reported as failed, and that a failover may still
        undo.
        """
        ...

    async def touch(self, record: Record) -> None:
        """Write ``last_seen_time`` and ``expire_time`` alone, if the stored record still has this
        ``revision`` and ``create_time``. Best effort: the write may be lost, the method does not
        wait for it, and it is not logged."""
        ...

    async def remove(self, record: Record) -> None:
        """Remove the record, if the stored one still has this ``revision`` and ``create_time``, and
        log it as EXPIRED."""
        ...

    async def sweep(self, now: float) -> int:
        """Remove the records whose ``expire_time`` is ``now`` or earlier, and log them as EXPIRED.

        Only for clean-up: readers check ``expire_time`` themselves.

        Returns:
            How many were removed.
        """
        ...

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """Records by ``create_time``, newest first, then by id, last first.

        A subject and a prefix of ids are looked up in an index. Every other filter examines the
        records one by one.

        Args:
            which: the filter.
            after: ``Page.next`` of the last page with the same filter; empty for the first.
            size: how many records, at most.

        Raises:
            AuthError: ARGUMENT_INVALID: ``after`` is not from this store.
        """
        ...

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        """Records of a subject, in no order, and without those that are removed meanwhile.

        Args:
            issuer: whose subject.
            subject: claim ``sub``.
            most: how many, at most; further ones are not read.
        """
        ...

    async def count(self, now: float) -> SessionCounts:
        """The number of all records by state, without those whose ``expire_time`` is ``now`` or
        earlier. It reads no record."""
        ...

    async def space(self) -> StoreSpace | None:
        """The space that the store writes to, now; None for a store that has no limit of its
        own."""
        ...

    # Not-befores.

    async def set_not_before(self, not_before: NotBefore) -> str:
        """Set a not-before, unless a later one with the same key is set, and log it. Durable.

        Returns:
            The write's consistency token.
        """
        ...

    def cached_not_befores(self, consistency_token: str = "") -> NotBefores | None:
        """All not-befores, as ``cached_record``; None when the cache is too old: use
        ``get_not_befores``."""
        ...

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """The not-befores with these keys, as last written."""
        ...

    async def delete_not_befores(self, set_before: float) -> None:
        """Delete the not-befores that were set before a time."""
        ...

    # The log.

    async def append(self, event: SessionEvent) -> None:
        """Log an event that changes no record. Best effort, as ``touch``."""
        ...

    async def position(self) -> str:
        """The end of the log: a watch from here has every event from now on."""
        ...

    def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        """Events after a position, in the order of the writes to each record.

        It does not end by itself. Events that are no longer kept (``events_kept`` of the store) are
        skipped.

        Args:
            position: of the last event that was seen; empty to watch from now on.

        Raises:
            AuthError: ARGUMENT_INVALID: ``position`` is not from this store.
        """
        ...

    async def close(self) -> None:
        """Finish pending writes, and close the store. Idempotent."""
        ...
