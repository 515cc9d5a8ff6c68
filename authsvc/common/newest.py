"""The newest items, with a bound on their number and on bytes: the oldest is dropped first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Newest(Generic[ItemT]):
    """Belongs to one event loop.

    Args:
        max_items: how many items it holds at most.
        max_bytes: how many bytes they take together at most, by the costs that ``append`` is given.
            The newest item is kept, however large it is.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[ItemT, int]] = deque()
        self._used_bytes = 0
        self.dropped = 0
        """How many items have been dropped so far."""

    def append(self, item: ItemT, cost_bytes: int) -> None:
        """Add an item, and drop the oldest ones until all fit.

        Args:
            item: what is added.
            cost_bytes: bytes that it takes in memory.
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
