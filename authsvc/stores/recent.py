"""What one process remembers of a shared store, kept current by the store's log.

Records are remembered when they are read or written, and forgotten when the log tells of any other
write to them. So what is remembered is never older than what of the log has been applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefores

RECORD_BYTES = 2_600
"""What records may take in memory, on average: twice what one with one grant takes. Where they
take more, fewer are cached."""

Version = tuple[float, int]
"""``create_time`` and ``revision``: one write to a record under an id."""


def version_of(record: Record) -> Version:
    """Which write this is."""
    return record.create_time, record.revision


class Fetch:
    """One exchange with the store about one record, while the log goes on."""

    def __init__(self, recent: Recent, session_id: str) -> None:
        self._recent = recent
        self._session_id = session_id
        self._is_outdated = False
        self._overtaken_by: Version | None = None

    def keep(self, record: Record) -> None:
        """Remember the record that was read or written, unless the log has overtaken it."""
        if not self._is_outdated and self._overtaken_by in (None, version_of(record)):
            self._recent.remember(record)

    def overtake(self, version: Version | None) -> None:
        """The log told of a write meanwhile; None when all memory became void."""
        if version is None:
            self._is_outdated = True
        self._overtaken_by = version


class Recent:
    """Records used last, and all not-befores.

    Args:
        size: how many records there may be, of ``RECORD_BYTES`` each on average.
    """

    def __init__(self, size: int) -> None:
        self.not_befores = NotBefores()
        self._records: LruCache[str, Record] = LruCache(size, bytes_for(size, RECORD_BYTES))
        self.get = self._records.get
        """The record of a session id, if it is cached."""
        self._fetches: dict[str, list[Fetch]] = {}

    @contextmanager
    def fetch(self, session_id: str) -> Iterator[Fetch]:
        """Around each exchange with the store whose result is to be remembered.

        A reply and the log travel apart: without this, a reply that was overtaken on the way would
        be remembered for good.
        """
        fetch = Fetch(self, session_id)
        under_way = self._fetches.setdefault(session_id, [])
        under_way.append(fetch)
        try:
            yield fetch
        finally:
            under_way.remove(fetch)
            if not under_way:
                self._fetches.pop(session_id, None)

    def remember(self, record: Record) -> None:
        """Remember a record that is known to be current."""
        self._records.put(record.id, record, record.memory_bytes())

    def touch(self, record: Record) -> None:
        """Take over the times of use, which the log does not tell of."""
        known = self._records.peek(record.id)
        if known is not None and version_of(known) == version_of(record):
            touched = replace(
                known, last_seen_time=record.last_seen_time, expire_time=record.expire_time
            )
            self._records.put(record.id, touched, touched.memory_bytes())

    def written(self, session_id: str, version: Version) -> None:
        """The log tells of a write, or of the removal of one: what is remembered goes, unless it is
        that very write."""
        for fetch in self._fetches.get(session_id, ()):
            fetch.overtake(version)
        known = self._records.peek(session_id)
        if known is not None and version_of(known) != version:
            self._records.discard(session_id)

    def removed(self, session_id: str) -> None:
        """The log tells of a removal."""
        for fetch in self._fetches.get(session_id, ()):
            fetch.overtake(None)
        self._records.discard(session_id)

    def clear(self) -> None:
        """Forget all: the log had a gap, or begins anew."""
        self._records.clear()
        self.not_befores = NotBefores()
        for fetches in self._fetches.values():
            for fetch in fetches:
                fetch.overtake(None)

    def __len__(self) -> int:
        return len(self._records)
