"""All partitions of a server, and which one has a record."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from authsvc.stores.redis.partition import Partition


class Partitions:
    """The partitions; the records are spread evenly over them.

    Args:
        prefix: what all keys begin with.
        count: how many there are.
        cached_sessions: how many records are cached, of all partitions together.
    """

    def __init__(self, prefix: str, count: int, cached_sessions: int) -> None:
        self._all = [
            Partition(number, f"{prefix}:{{{number}}}", -(-cached_sessions // count))
            for number in range(count)
        ]

    @property
    def first(self) -> Partition:
        """The partition that also has the not-befores."""
        return self._all[0]

    def of(self, session_id: str) -> Partition:
        """The partition that has the record of a session id."""
        count = len(self._all)
        return self._all[zlib.crc32(session_id.encode()) % count if count > 1 else 0]

    def age_seconds(self) -> float:
        """How old the oldest cache may be; infinite while a log cannot be read."""
        return max(partition.age_seconds() for partition in self._all)

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
