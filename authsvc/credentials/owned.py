"""A cache in which no principal takes the room of others."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from authsvc.common.lru import ENTRY_BYTES, LruCache

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class _Owned(Generic[ValueT]):
    value: ValueT
    owner: Hashable
    until: float


class OwnedCache(Generic[ValueT]):
    """The least recently used entry is evicted first, within these rules.

    An owner has ``max_owned`` entries at most: its next one evicts its own oldest. A full cache
    evicts an entry that is of no more use, then the owner's own oldest. Only an owner that has none
    evicts another's. So one that varies its keys evicts its own entries, and what has ended does
    not keep the others from growing.

    Belongs to one event loop.

    Args:
        max_entries: how many entries it holds at most.
        max_bytes: how many bytes they take together at most.
        max_owned: how many entries one owner has at most.
    """

    def __init__(self, max_entries: int, max_bytes: int, max_owned: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_owned = max_owned
        self._entries: LruCache[Hashable, _Owned[ValueT]] = LruCache(max_entries, max_bytes)
        self._keys: dict[Hashable, dict[Hashable, None]] = {}

    def get(self, key: Hashable) -> ValueT | None:
        """The value, as the most recently used one of all and of its owner; None without one."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        keys = self._keys[entry.owner]
        if len(keys) > 1:
            del keys[key]
            keys[key] = None
        return entry.value

    def peek(self, key: Hashable) -> ValueT | None:
        """The value, without counting as a use."""
        entry = self._entries.peek(key)
        return None if entry is None else entry.value

    def put(
        self,
        key: Hashable,
        value: ValueT,
        cost_bytes: int,
        *,
        owner: Hashable,
        until: float,
        now: float,
    ) -> None:
        """Cache a value; one that does not fit by itself is not cached.

        Args:
            key: of the value; it belongs to one owner.
            value: what is cached.
            cost_bytes: bytes that it takes in memory.
            owner: whose it is.
            until: when it is of no more use, in seconds since the epoch.
            now: seconds since the epoch.
        """
        self.discard(key)
        if cost_bytes + ENTRY_BYTES > self._max_bytes:
            return
        while len(self._keys.get(owner, ())) >= self._max_owned:
            self._evict_own(owner)
        while not self._has_room(cost_bytes) and (oldest := self._entries.oldest()) is not None:
            key_of_oldest, entry = oldest
            if now < entry.until and owner in self._keys:
                self._evict_own(owner)
            else:
                self.discard(key_of_oldest)
        self._entries.put(key, _Owned(value, owner, until), cost_bytes)
        self._keys.setdefault(owner, {})[key] = None

    def discard(self, key: Hashable) -> None:
        """Remove a value, if it is cached."""
        entry = self._entries.peek(key)
        if entry is None:
            return
        self._entries.discard(key)
        keys = self._keys[entry.owner]
        del keys[key]
        if not keys:
            del self._keys[entry.owner]

    def __len__(self) -> int:
        return len(self._entries)

    def _has_room(self, cost_bytes: int) -> bool:
        used = self._entries.used_bytes + cost_bytes + ENTRY_BYTES
        return len(self._entries) < self._max_entries and used <= self._max_bytes

    def _evict_own(self, owner: Hashable) -> None:
        self.discard(next(iter(self._keys[owner])))
