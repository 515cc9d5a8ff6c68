"""The scripts that write records."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from authsvc.domain.events import EventType, SessionEvent, event_time
from authsvc.domain.record import Record
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.partition import Partition
from authsvc.stores.redis.records import encode_value, ttl_ms

SWEEP_CHUNK = 200
"""Records that one script removes: the server runs no other command meanwhile."""


class RecordWrites:
    """Writes to records, each one script. See the methods of ``SessionStore``.

    Every method raises ``AuthError`` STORE_UNAVAILABLE.

    Args:
        link: runs the scripts.
        unauthenticated_cap: unauthenticated records that each partition keeps.
        events_kept: events that each partition's log keeps, about.
    """

    def __init__(self, link: Link, *, unauthenticated_cap: int, events_kept: int) -> None:
        self._link = link
        self._cap = unauthenticated_cap
        self._events_kept = events_kept

    async def put(self, partition: Partition, record: Record, event: EventType) -> str | None:
        """Write a record; returns the consistency token, or None when another write came first."""
        position = await self._link.write(
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
        return None if position is None else partition.consistency_token(position)

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
        await self._link.run(
            scripts.REMOVE,
            partition.base,
            record.id,
            record.revision,
            repr(record.create_time),
            self._events_kept,
        )

    async def sweep(self, partition: Partition, now: float) -> int:
        """Remove the expired records of a partition; returns how many there were."""
        total, removed = 0, SWEEP_CHUNK
        while removed == SWEEP_CHUNK:
            removed = await self._link.run(
                scripts.SWEEP, partition.base, repr(now), SWEEP_CHUNK, self._events_kept
            )
            total += removed
        return total

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
