"""Records in memory: for tests, and for those who can lose them at a restart."""

from __future__ import annotations

from dataclasses import replace

from authsvc.errors import AuthError, Reason
from authsvc.sessions import Record


class MemoryStore:
    """See ``SessionStore``. No method awaits, so that each is atomic on its event loop.

    Args:
        unauthenticated_cap: how many unauthenticated records are kept.
    """

    def __init__(self, *, unauthenticated_cap: int) -> None:
        self._records: dict[str, Record] = {}
        # In order of creation: a dict that is used as an ordered set.
        self._unauthenticated: dict[str, None] = {}
        self._cap = unauthenticated_cap
        self._closed = False

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        self._check_open()
        return self._records.get(session_id)

    async def put(self, record: Record) -> bool:
        """See ``SessionStore.put``."""
        self._check_open()
        stored = self._records.get(record.id)
        if record.revision != (stored.revision + 1 if stored else 1):
            return False
        if stored is not None and stored.create_time > record.create_time:
            return False
        self._records[record.id] = record
        if record.authenticated:
            self._unauthenticated.pop(record.id, None)
        else:
            self._unauthenticated.setdefault(record.id)
            while len(self._unauthenticated) > self._cap:
                self._forget(next(iter(self._unauthenticated)))
        return True

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        self._check_open()
        stored = self._records.get(record.id)
        if stored is not None and _is_same(stored, record):
            self._records[record.id] = replace(
                stored, last_seen_time=record.last_seen_time, expire_time=record.expire_time
            )

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        self._check_open()
        stored = self._records.get(record.id)
        if stored is not None and _is_same(stored, record):
            self._forget(record.id)

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        self._check_open()
        expired = [key for key, record in self._records.items() if record.expire_time <= now]
        for session_id in expired:
            self._forget(session_id)
        return len(expired)

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        self._closed = True

    def _forget(self, session_id: str) -> None:
        del self._records[session_id]
        self._unauthenticated.pop(session_id, None)

    def _check_open(self) -> None:
        if self._closed:
            raise AuthError(Reason.STORE_UNAVAILABLE, "the store is closed")


def _is_same(stored: Record, record: Record) -> bool:
    return (stored.revision, stored.create_time) == (record.revision, record.create_time)
