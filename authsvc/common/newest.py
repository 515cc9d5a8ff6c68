"""The newest of what comes, bounded by count and by bytes: what came first goes first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Newest(Generic[ItemT]):
    """Belongs to one event loop.

    Args:
        max_items: how many there may be.
        max_bytes: how much they may take together, by the costs that ``append`` is given. The
            newest one is kept whatever it takes.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[ItemT, int]] = deque()
        self._used_bytes = 0
        self.dropped = 0
        """How many had to make room so far."""

    def append(self, item: ItemT, cost_bytes: int) -> None:
        """Keep an item, and drop the oldest until all fit.

        Args:
            item: what is kept.
            cost_bytes: what it takes in memory.
        """
        self._items.append((item, cost_bytes))
        self._used_bytes += cost_bytes
        while len(self._items) > self._max_items or (
            self._used_bytes > self._max_bytes and len(self._items) > 1
        ):
            _, dropped = self._items.popleft()
            self._used_bytes -= dropped
            self.dropped += 1

    def __getitem__(self, index: int) -> ItemT:
        return self._items[index][0]

    def __reversed__(self) -> Iterator[ItemT]:
        return (item for item, _ in reversed(self._items))

    def __len__(self) -> int:
        return len(self._items)
