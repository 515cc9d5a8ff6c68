"""Where session records live: one protocol, and one contract suite that every store passes.

A store holds records and nothing else; it decides nothing and has no clock. Every method raises
``AuthError`` STORE_UNAVAILABLE when the store cannot be reached or does not answer in time.
"""

from __future__ import annotations

from typing import Protocol

from authsvc.sessions import Record


class SessionStore(Protocol):
    """Records by id, written under compare-and-set. Safe for concurrent use on one event loop."""

    async def get(self, session_id: str) -> Record | None:
        """The record as last written, tombstones and expired ones included; None when unknown.

        A caller that has just written reads its own write.
        """
        ...

    async def put(self, record: Record) -> bool:
        """Write ``record`` if what is stored is its predecessor.

        The predecessor of revision 1 is no record; that of revision n is revision n - 1 of a record
        that was not created later: a session made anew under the same id is another one. Durable
        once it returns True: a crash of the process loses nothing that was acknowledged. Beyond
        the cap of unauthenticated records (``unauthenticated_cap`` of the store) the ones created
        first are removed, in the same write.

        Returns:
            False when another write came first; nothing has changed then.
        """
        ...

    async def touch(self, record: Record) -> None:
        """Write ``last_seen_time`` and ``expire_time`` alone, if what is stored still has the
        record's ``revision`` and ``create_time``. Best effort: need not be durable then."""
        ...

    async def remove(self, record: Record) -> None:
        """Remove the record, if what is stored still has its ``revision`` and ``create_time``."""
        ...

    async def sweep(self, now: float) -> int:
        """Remove the records whose ``expire_time`` is ``now`` or earlier; how many there were.

        Clean-up only: readers judge ``expire_time`` for themselves.
        """
        ...

    async def close(self) -> None:
        """Finish pending writes and let go of the store. Idempotent."""
        ...
