"""The scripts that write records."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from authsvc.domain.errors import AuthError
from authsvc.domain.events import EventType, SessionEvent, event_time
from authsvc.domain.record import Record
from authsvc.stores import OnRemoved
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.partition import Partition
from authsvc.stores.redis.records import decode_value, encode_value, ttl_ms

SWEEP_CHUNK = 200
"""Records that one script removes: the server runs no other command meanwhile."""


class RecordWrites:
    """Writes to records, each one script. See the methods of ``SessionStore``.

    Every method raises ``AuthError`` STORE_UNAVAILABLE.

    Args:
        link: runs the scripts.
        unauthenticated_cap: unauthenticated records that each partition keeps.
        events_kept: events that each partition's log keeps, about.
        on_removed: is called with each record that these writes remove.
    """

    def __init__(
        self, link: Link, *, unauthenticated_cap: int, events_kept: int, on_removed: OnRemoved
    ) -> None:
        self._link = link
        self._on_removed = on_removed
        self._cap = unauthenticated_cap
        self._events_kept = events_kept

    async def put(self, partition: Partition, record: Record, event: EventType) -> str | None:
        """Write a record; returns the consistency token, or None when another write came first."""
        answer = await self._link.write(
            scripts.PUT,
            partition.base,
            record.id,
            encode_value(record),
            ttl_ms(record),
            self._cap,
            self._events_kept,
            event.value,
            repr(event_time(event, record)),
        )
        if answer is None:
            return None
        position, removed = answer
        self._report(removed)
        return partition.consistency_token(position)

    async def confirm(self, partition: Partition, record: Record) -> None:
        """Return once all earlier writes are replicated."""
        await self._link.write(scripts.CONFIRM, partition.base, record.id, ttl_ms(record))

    def touch(self, partition: Partition, record: Record) -> Coroutine[Any, Any, Any]:
        """Write ``last_seen_time`` and ``expire_time``."""
        return self._link.run(
            scripts.TOUCH,
            partition.base,
            record.id,
            record.revision,
            repr(record.create_time),
            repr(record.last_seen_time),
            repr(record.expire_time),
            ttl_ms(record),
        )

    async def remove(self, partition: Partition, record: Record) -> None:
        """Remove a record."""
        removed = await self._link.run(
            scripts.REMOVE,
            partition.base,
            record.id,
            record.revision,
            repr(record.create_time),
            self._events_kept,
        )
        self._report(removed)

    async def sweep(self, partition: Partition, now: float) -> int:
        """Remove the expired records of a partition; returns how many there were."""
        total, count = 0, SWEEP_CHUNK
        while count == SWEEP_CHUNK:
            removed = await self._link.run(
                scripts.SWEEP, partition.base, repr(now), SWEEP_CHUNK, self._events_kept
            )
            self._report(removed)
            count = len(removed) // 2
            total += count
        return total

    def _report(self, removed: Sequence[bytes]) -> None:
        """Report what a script has removed; see ``prelude.lua``."""
        for name, value in zip(removed[::2], removed[1::2], strict=True):
            session_id, record = name.decode(), None
            # One of a later version is removed like all others.
            with suppress(AuthError):
                record = decode_value(session_id, value)
            self._on_removed(session_id, record)

    def append(
        self, partition: Partition, record: Record, event: SessionEvent
    ) -> Coroutine[Any, Any, Any]:
        """Log an event of a record that is not written."""
        return self._link.run(
            scripts.APPEND,
            partition.base,
            event.type.value,
            repr(event.time),
            record.id,
            encode_value(record),
            self._events_kept,
        )
