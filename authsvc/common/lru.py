"""A cache with a bound on entries and on bytes: the least recently used entry is evicted first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

ENTRY_BYTES = 400
"""Bytes that an entry takes beside its value: its place in the order, and its key."""

MIN_CACHE_BYTES = 1024 * 1024
"""Bytes that even the smallest cache may take, so that one large value fits."""


class LruCache(Generic[KeyT, ValueT]):
    """Belongs to one event loop.

    Args:
        max_entries: how many entries it holds at most.
        max_bytes: how many bytes they take together at most, by the costs that ``put`` is given. A
            value that exceeds it by itself is not cached.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()
        self.used_bytes = 0
        """Bytes that the entries take together."""

    def get(self, key: KeyT) -> ValueT | None:
        """The value, as the most recently used one; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def peek(self, key: KeyT) -> ValueT | None:
        """The value, without counting as a use."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def oldest(self) -> tuple[KeyT, ValueT] | None:
        """The entry that would be evicted next; None where there is none."""
        for key, (value, _) in self._entries.items():
            return key, value
        return None

    def put(self, key: KeyT, value: ValueT, cost_bytes: int) -> None:
        """Cache a value, and evict the least recently used ones until all fit.

        Args:
            key: of the value; a value cached under it before is replaced.
            value: what is cached.
            cost_bytes: bytes that the value takes in memory, without ``ENTRY_BYTES``.
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
        """Remove a value, if it is cached."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry[1]

    def clear(self) -> None:
        """Remove all values."""
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
        entries: how many entries it holds at most.
        each: bytes that one takes on average, ``ENTRY_BYTES`` included.
    """
    return max(entries * each, MIN_CACHE_BYTES)
