"""Where session records live: one protocol, and one contract suite that every store passes.

A store holds records, not-befores and the log of what happened to them; it decides nothing and has
no clock. Every method raises ``AuthError`` STORE_UNAVAILABLE when the store cannot be reached or
does not answer in time.

Several processes may share one store. Each write appends an event to the store's log, and each
process follows the log: that is what keeps its memory current. ``cached_record`` and
``cached_not_befores`` answer from that memory, and only while it is known to be younger than the
published bound; ``get`` and ``get_not_befores`` ask the store itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Protocol

from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores

STALENESS_BOUND_SECONDS = 0.5
"""How old a process's memory may be, at most, to be answered from: half of what is published
(docs/sessions.md), since it counts from the last word of the store."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        records: the newest first.
        next: what to ask for the next page with; empty at the end. A page may be short, or even
            empty, before the end: looking through a store takes as many pages as it needs.
    """

    records: list[Record]
    next: str


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of the log.

    Attributes:
        position: what to watch from to get all events after this one. Opaque.
        event: what happened.
    """

    position: str
    event: SessionEvent


class SessionStore(Protocol):
    """Records by id, written under compare-and-set. Safe for concurrent use on one event loop."""

    @property
    def ready(self) -> bool:
        """Whether it can be asked, as far as is known without asking."""
        ...

    # Records.

    def cached_record(self, session_id: str, consistency_token: str = "") -> Record | None:
        """The record from memory, as the store had it within the bound.

        Args:
            session_id: which one.
            consistency_token: of a write; what it stands for is in the record.

        Returns:
            None when memory cannot tell: ask with ``get``.
        """
        ...

    async def get(self, session_id: str) -> Record | None:
        """The record as last written, tombstones and expired ones included; None when unknown."""
        ...

    async def put(self, record: Record, event: EventType) -> str | None:
        """Write ``record`` if what is stored is its predecessor, and log ``event``.

        The predecessor of revision 1 is no record; that of revision n is revision n - 1 of a record
        that was not created later: a session made anew under the same id is another one. Durable
        once it returns: a crash of the process loses nothing that was acknowledged. Beyond the cap
        of unauthenticated records (``unauthenticated_cap`` of the store) the ones created first are
        removed, in the same write, and logged as EXPIRED.

        Returns:
            The write's consistency token; None when another write came first, and nothing has
            changed then.
        """
        ...

    async def confirm(self, record: Record) -> None:
        """Return once a record that was read is as safe as what ``put`` acknowledges.

        What was read may be a write whose own caller was told that it failed, and which a failover
        may still undo.
        """
        ...

    async def touch(self, record: Record) -> None:
        """Write ``last_seen_time`` and ``expire_time`` alone, if what is stored still has the
        record's ``revision`` and ``create_time``. Best effort: need not be durable then, does not
        wait, and is not logged."""
        ...

    async def remove(self, record: Record) -> None:
        """Remove the record, if what is stored still has its ``revision`` and ``create_time``, and
        log it as EXPIRED."""
        ...

    async def sweep(self, now: float) -> int:
        """Remove the records whose ``expire_time`` is ``now`` or earlier; how many there were.

        Clean-up only: readers judge ``expire_time`` for themselves. Each is logged as EXPIRED.
        """
        ...

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """Records by ``create_time``, newest first, then by id, last first.

        Args:
            which: what they have to match.
            after: ``Page.next`` of the last page with the same filter; empty for the first.
            size: how many, at most.

        Raises:
            AuthError: ARGUMENT_INVALID: ``after`` is none of this store's.
        """
        ...

    # Not-befores.

    async def set_not_before(self, not_before: NotBefore) -> str:
        """Put a not-before in force, unless a later one for the same is, and log it. Durable.

        Returns:
            The write's consistency token.
        """
        ...

    def cached_not_befores(self, consistency_token: str = "") -> NotBefores | None:
        """All not-befores from memory, as ``cached_record``; None when memory cannot tell."""
        ...

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """The not-befores with these keys, as last written."""
        ...

    async def delete_not_befores(self, set_before: float) -> None:
        """Drop the not-befores set before a time."""
        ...

    # The log.

    async def append(self, event: SessionEvent) -> None:
        """Log what changes no record. Best effort, as ``touch``."""
        ...

    async def position(self) -> str:
        """The end of the log: watching from here tells everything that is written from now on."""
        ...

    def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        """Events from ``position`` on, in the order of the writes to each record; empty for now on.

        Never ends by itself. What is no longer kept (``events_kept`` of the store) is passed over.

        Raises:
            AuthError: ARGUMENT_INVALID: ``position`` is none of this store's.
        """
        ...

    async def close(self) -> None:
        """Finish pending writes and let go of the store. Idempotent."""
        ...
