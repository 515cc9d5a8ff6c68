"""One process's cache of a shared store, kept current by the store's log.

A record is cached when it is read or written, and evicted when the log reports any other write to
it. So a cached record is never older than the part of the log that has been applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefores

RECORD_BYTES = 2_600
"""Memory of a cached record on average: twice what a record with one grant takes. Where records
take more, fewer are cached."""

Version = tuple[float, int]
"""``create_time`` and ``revision``: identifies one write to the record of a session id."""


def version_of(record: Record) -> Version:
    """The write that made this record."""
    return record.create_time, record.revision


class Fetch:
    """One read or write of a record, while the log goes on. Made by ``RecordCache.fetch``."""

    def __init__(self, cache: RecordCache, session_id: str) -> None:
        self._cache = cache
        self._session_id = session_id
        self._is_outdated = False
        self._newer_version: Version | None = None

    def put(self, record: Record) -> None:
        """Cache the record that was read or written, unless the log has reported a newer write."""
        if not self._is_outdated and self._newer_version in (None, version_of(record)):
            self._cache.put(record)

    def written(self, version: Version) -> None:
        """The log reported a write meanwhile."""
        self._newer_version = version

    def invalidate(self) -> None:
        """The log reported a removal meanwhile, or had a gap: the result is not cached."""
        self._is_outdated = True


class RecordCache:
    """The records that were used last, and all not-befores.

    Args:
        size: how many records are cached, of ``RECORD_BYTES`` each on average.
    """

    def __init__(self, size: int) -> None:
        self.not_befores = NotBefores()
        self._records: LruCache[str, Record] = LruCache(size, bytes_for(size, RECORD_BYTES))
        self.get = self._records.get
        """The record of a session id, if it is cached."""
        self._fetches: dict[str, list[Fetch]] = {}

    @contextmanager
    def fetch(self, session_id: str) -> Iterator[Fetch]:
        """Surrounds each read or write of the store whose result is to be cached.

        The store's answers and its log arrive in any order. Without this, an answer that arrives
        after the log has reported a newer write would stay in the cache.
        """
        fetch = Fetch(self, session_id)
        in_flight = self._fetches.setdefault(session_id, [])
        in_flight.append(fetch)
        try:
            yield fetch
        finally:
            in_flight.remove(fetch)
            if not in_flight:
                self._fetches.pop(session_id, None)

    def put(self, record: Record) -> None:
        """Cache a record that is known to be current."""
        self._records.put(record.id, record, record.memory_bytes())

    def touch(self, record: Record) -> None:
        """Take over ``last_seen_time`` and ``expire_time``, which the log does not report."""
        known = self._records.peek(record.id)
        if known is not None and version_of(known) == version_of(record):
            touched = replace(
                known, last_seen_time=record.last_seen_time, expire_time=record.expire_time
            )
            self._records.put(record.id, touched, touched.memory_bytes())

    def written(self, session_id: str, version: Version) -> None:
        """The log reports a write: evict the record, unless it is that very write."""
        for fetch in self._fetches.get(session_id, ()):
            fetch.written(version)
        known = self._records.peek(session_id)
        if known is not None and version_of(known) != version:
            self._records.discard(session_id)

    def removed(self, session_id: str) -> None:
        """The log reports a removal: evict the record."""
        for fetch in self._fetches.get(session_id, ()):
            fetch.invalidate()
        self._records.discard(session_id)

    def clear(self) -> None:
        """Evict everything: the log had a gap, or was replaced."""
        self._records.clear()
        self.not_befores = NotBefores()
        for fetches in self._fetches.values():
            for fetch in fetches:
                fetch.invalidate()

    def __len__(self) -> int:
        return len(self._records)
