"""A cache that is bounded by count and by bytes: what was used least recently goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

ENTRY_BYTES = 400
"""What an entry takes beside its value: its place in the order, and its key."""


MIN_CACHE_BYTES = 1024 * 1024
"""What even the smallest cache may take, so that one large entry has its place."""


class LruCache(Generic[KeyT, ValueT]):
    """Belongs to one event loop.

    Args:
        max_entries: how many there may be.
        max_bytes: how much they may take together, by the costs that ``put`` is given. What takes
            more than all of it by itself is not kept.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()
        self.used_bytes = 0
        """What the entries take together."""

    def get(self, key: KeyT) -> ValueT | None:
        """The value, which has now been used; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def peek(self, key: KeyT) -> ValueT | None:
        """The value, without counting as a use."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: KeyT, value: ValueT, cost_bytes: int) -> None:
        """Keep a value, and evict what was used least recently until all fit.

        Args:
            key: in place of the value that it had.
            value: what is kept.
            cost_bytes: what the value takes in memory; the entry itself is added.
        """
        self.discard(key)
        cost = cost_bytes + ENTRY_BYTES
        if cost > self._max_bytes:
            return
        self._entries[key] = value, cost
        self.used_bytes += cost
        while len(self._entries) > self.max_entries or self.used_bytes > self._max_bytes:
            _, (_, evicted) = self._entries.popitem(last=False)
            self.used_bytes -= evicted

    def discard(self, key: KeyT) -> None:
        """Drop a value, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry[1]

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()
        self.used_bytes = 0

    def items(self) -> list[tuple[KeyT, ValueT]]:
        """Keys and values, least recently used first."""
        return [(key, value) for key, (value, _) in self._entries.items()]

    def __len__(self) -> int:
        return len(self._entries)


def bytes_for(entries: int, each: int) -> int:
    """The bound in bytes of a cache whose size is configured by count.

    Args:
        entries: how many there may be.
        each: what one may take on average.
    """
    return max(entries * each, MIN_CACHE_BYTES)
