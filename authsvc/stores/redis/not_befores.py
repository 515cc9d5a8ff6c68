"""The not-befores: one hash in the first partition."""

from __future__ import annotations

from collections.abc import Collection

from authsvc.domain.events import EventType
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.records import (
    decode_not_before_value,
    encode_not_before_value,
    not_before_field,
)

SCAN_COUNT = 1000
"""Not-befores that one command reads, about."""


class NotBeforeHash:
    """Reads and writes not-befores. Every method raises ``AuthError`` STORE_UNAVAILABLE.

    Args:
        link: runs the commands.
        base: what the partition's keys begin with.
        events_kept: events that the partition's log keeps, about.
    """

    def __init__(self, link: Link, base: str, *, events_kept: int) -> None:
        self._link = link
        self._base = base
        self._events_kept = events_kept

    async def set(self, not_before: NotBefore) -> bytes:
        """Set one, unless a later one is set; returns the event's position in the log."""
        position: bytes = await self._link.write(
            scripts.SET_NOT_BEFORE,
            self._base,
            not_before_field(not_before.key),
            encode_not_before_value(not_before),
            self._events_kept,
            EventType.TOKENS_REVOKED.value,
            repr(not_before.set_time),
        )
        return position

    async def get(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """Those with these keys."""
        values = await self._link.ask("HMGET", _key(self._base), *map(not_before_field, keys))
        not_befores = NotBefores()
        for value in values:
            if value is not None:
                not_befores.add(decode_not_before_value(value))
        return not_befores

    async def delete(self, set_before: float) -> None:
        """Delete those that were set before a time."""
        for not_before in await all_not_befores(self._link, self._base):
            if not_before.set_time < set_before:
                field, value = not_before_field(not_before.key), encode_not_before_value(not_before)
                await self._link.run(scripts.DELETE_NOT_BEFORE, self._base, field, value)


async def all_not_befores(link: Link, base: str) -> list[NotBefore]:
    """Every not-before.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    found: list[NotBefore] = []
    cursor = "0"
    while True:
        answer = await link.ask("HSCAN", _key(base), cursor, "COUNT", SCAN_COUNT)
        position, fields = answer
        found += [decode_not_before_value(value) for value in fields.values()]
        cursor = position.decode() if isinstance(position, bytes) else str(position)
        if cursor == "0":
            return found


def _key(base: str) -> str:
    return f"{base}:not_befores"
