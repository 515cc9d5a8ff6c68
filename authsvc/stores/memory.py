"""Records in memory: for tests, and for deployments that can lose them at a restart."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from dataclasses import replace
from itertools import islice

from authsvc.common.newest import Newest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EVENT_BYTES, EventType, RecordFilter, SessionEvent, event_time
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.domain.service_status import SessionCounts, StoreSpace
from authsvc.stores import LoggedEvent, OnRemoved, Page, ignore_removed
from authsvc.stores.counting import counted_state, counts_of
from authsvc.stores.documents import Document
from authsvc.stores.paging import (
    after_cursor,
    cursor_of,
    end_of_prefix,
    newest_first,
    parse_position,
)
from authsvc.stores.record_cache import version_of


class MemoryStore:
    """See ``SessionStore``. No method awaits, except ``watch``: each is atomic on its event loop.

    Args:
        unauthenticated_cap: how many unauthenticated records are kept.
        events_kept: how many events are kept, of ``EVENT_BYTES`` each on average.
        on_removed: is called with each record that is removed.
    """

    def __init__(
        self,
        *,
        unauthenticated_cap: int,
        events_kept: int = 10_000,
        on_removed: OnRemoved = ignore_removed,
    ) -> None:
        self._on_removed = on_removed
        self._records: dict[str, Record] = {}
        self._sorted_ids: list[str] = []
        # In order of creation: a dict that is used as an ordered set.
        self._unauthenticated: dict[str, None] = {}
        self._not_befores = NotBefores()
        self._documents: dict[str, Document] = {}
        self._received: dict[str, float] = {}
        self._log: Newest[SessionEvent] = Newest(events_kept, events_kept * EVENT_BYTES)
        self._logged = 0
        self._more = asyncio.Event()
        self._cap = unauthenticated_cap
        self._closed = False

    @property
    def ready(self) -> bool:
        """See ``SessionStore.ready``."""
        return not self._closed

    async def server_times(self) -> tuple[float, ...]:
        """See ``SessionStore.server_times``: its clock is this machine's."""
        return ()

    def cached_record(self, session_id: str, consistency_token: str = "") -> Record | None:
        """See ``SessionStore.cached_record``."""
        return None if self._closed else self._records.get(session_id)

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        self._check_open()
        return self._records.get(session_id)

    async def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        self._check_open()
        stored = self._records.get(record.id)
        if record.revision != (stored.revision + 1 if stored else 1):
            return None
        if stored is not None and stored.create_time > record.create_time:
            return None
        if stored is None:
            insort(self._sorted_ids, record.id)
        self._records[record.id] = record
        self._append(SessionEvent(event, event_time(event, record), record))
        if record.authenticated:
            self._unauthenticated.pop(record.id, None)
        else:
            self._unauthenticated.setdefault(record.id)
            while len(self._unauthenticated) > self._cap:
                self._expire(next(iter(self._unauthenticated)))
        return str(self._logged)

    async def confirm(self, record: Record) -> None:
        """See ``SessionStore.confirm``. Every record that can be read is final."""
        self._check_open()

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        stored = self._records.get(record.id)
        if stored is not None and version_of(stored) == version_of(record):
            self._records[record.id] = replace(
                stored, last_seen_time=record.last_seen_time, expire_time=record.expire_time
            )

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        self._check_open()
        stored = self._records.get(record.id)
        if stored is not None and version_of(stored) == version_of(record):
            self._expire(record.id)

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        self._check_open()
        expired = [key for key, record in self._records.items() if record.expire_time <= now]
        for session_id in expired:
            self._expire(session_id)
        for key in [key for key, until in self._received.items() if until <= now]:
            del self._received[key]
        return len(expired)

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """See ``SessionStore.page``."""
        self._check_open()
        older = after_cursor(after)
        records = (
            map(self._records.__getitem__, self._ids_with(which.id_prefix))
            if which.id_prefix
            else self._records.values()
        )
        found = newest_first(it for it in records if which.matches(it) and older(it))
        return Page(found[:size], cursor_of(found[size - 1]) if len(found) > size else "")

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        """See ``SessionStore.records_of``."""
        self._check_open()
        which = RecordFilter(issuer=issuer, subject=subject)
        return list(islice(filter(which.matches, self._records.values()), most))

    async def count(self, now: float) -> SessionCounts:
        """See ``SessionStore.count``."""
        self._check_open()
        return counts_of(
            Counter(counted_state(it) for it in self._records.values() if now < it.expire_time)
        )

    async def space(self) -> StoreSpace | None:
        """See ``SessionStore.space``."""
        self._check_open()
        return None

    async def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        self._check_open()
        self._not_befores.add(not_before)
        self._append(
            SessionEvent(EventType.TOKENS_REVOKED, not_before.set_time, not_before=not_before)
        )
        return str(self._logged)

    def cached_not_befores(self, consistency_token: str = "") -> NotBefores | None:
        """See ``SessionStore.cached_not_befores``."""
        return None if self._closed else self._not_befores

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """See ``SessionStore.get_not_befores``."""
        self._check_open()
        return self._not_befores

    async def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        self._check_open()
        self._not_befores.drop(set_before)

    async def document(self, name: str) -> Document | None:
        """See ``DocumentStore.document``."""
        self._check_open()
        return self._documents.get(name)

    async def confirm_document(self, name: str) -> None:
        """See ``DocumentStore.confirm_document``. Every document that can be read is final."""
        self._check_open()

    async def put_document(self, name: str, document: Document) -> bool:
        """See ``DocumentStore.put_document``."""
        self._check_open()
        stored = self._documents.get(name)
        if document.revision != (stored.revision + 1 if stored else 1):
            return False
        self._documents[name] = document
        return True

    async def is_received(self, key: str) -> bool:
        """See ``ReceivedStore.is_received``."""
        self._check_open()
        return key in self._received

    async def mark_received(self, key: str, until: float) -> None:
        """See ``ReceivedStore.mark_received``."""
        self._check_open()
        self._received[key] = max(until, self._received.get(key, until))

    async def append(self, event: SessionEvent) -> None:
        """See ``SessionStore.append``."""
        self._append(event)

    async def position(self) -> str:
        """See ``SessionStore.position``."""
        self._check_open()
        return str(self._logged)

    async def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        """See ``SessionStore.watch``."""
        seen = parse_position(position) if position else self._logged
        if seen > self._logged:
            raise AuthError(Reason.ARGUMENT_INVALID, "not a position of this log")
        while True:
            self._check_open()
            first = self._logged - len(self._log)
            for index in range(max(seen, first), self._logged):
                # The log may have grown while the caller handled the last event.
                offset = index - (self._logged - len(self._log))
                if offset >= 0:
                    yield LoggedEvent(str(index + 1), self._log[offset])
                seen = index + 1
            if seen >= self._logged:
                await self._more.wait()

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        self._closed = True
        self._wake()

    def _append(self, event: SessionEvent) -> None:
        self._log.append(event, event.memory_bytes())
        self._logged += 1
        self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    def _ids_with(self, prefix: str) -> list[str]:
        ids = self._sorted_ids
        return ids[bisect_left(ids, prefix) : bisect_left(ids, end_of_prefix(prefix))]

    def _expire(self, session_id: str) -> None:
        record = self._records.pop(session_id)
        del self._sorted_ids[bisect_left(self._sorted_ids, session_id)]
        self._unauthenticated.pop(session_id, None)
        self._append(SessionEvent(EventType.EXPIRED, event_time(EventType.EXPIRED, record), record))
        self._on_removed(session_id, record)

    def _check_open(self) -> None:
        if self._closed:
            raise AuthError(Reason.STORE_UNAVAILABLE, "the store is closed")
