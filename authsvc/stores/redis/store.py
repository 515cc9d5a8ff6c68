"""The store: writes by scripts, cached reads, and all other reads from the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Self

from authsvc.domain.errors import AuthError
from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.domain.service_status import SessionCounts, StoreSpace
from authsvc.stores import (
    STALENESS_BOUND_SECONDS,
    LoggedEvent,
    OnRemoved,
    Page,
    ignore_removed,
)
from authsvc.stores.documents import Document
from authsvc.stores.redis import watching
from authsvc.stores.redis.documents import DocumentStrings
from authsvc.stores.redis.failures import unavailable
from authsvc.stores.redis.index import Index
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.listing import Listing
from authsvc.stores.redis.not_befores import NotBeforeHash
from authsvc.stores.redis.partition import Partition
from authsvc.stores.redis.partitions import Partitions
from authsvc.stores.redis.received import ReceivedKeys
from authsvc.stores.redis.record_writes import RecordWrites
from authsvc.stores.redis.records import decode_value
from authsvc.stores.redis.server import RedisServer
from authsvc.stores.redis.space import by_node, space_of
from authsvc.stores.redis.tasks import BackgroundWrites, end

UNAVAILABLE_SECONDS = 2.0
"""A server that has answered nothing for this long counts as unavailable, so that callers go to
other replicas, which may still reach it."""

REQUIRED_POLICY = "noeviction"
"""Under any other policy, a server without free memory evicts keys, revocations among them."""


class RedisStore:
    """See ``SessionStore``. Made by ``open``, on the event loop that uses it."""

    def __init__(
        self,
        server: RedisServer,
        *,
        prefix: str,
        unauthenticated_cap: int,
        events_kept: int,
        cached_sessions: int,
        bound_seconds: float,
        on_removed: OnRemoved,
    ) -> None:
        count = server.partitions
        self._partitions = Partitions(prefix, count, cached_sessions)
        self._replicas = server.acknowledge_replicas
        self._link = Link(server)
        # The feed does not retry: a late answer is useless, and a new connection may lead to
        # another server, whose log differs from the one that was followed.
        self._feed = Link(server, timeout_seconds=max(0.25, bound_seconds), retries=False)
        self._watchers = Link(server, timeout_seconds=2.0 + watching.POLL_MS / 1000)
        events_a_partition = -(-events_kept // count)
        self._writes = RecordWrites(
            self._link,
            unauthenticated_cap=-(-unauthenticated_cap // count),
            events_kept=events_a_partition,
            on_removed=on_removed,
        )
        self._not_befores = NotBeforeHash(
            self._link, self._partitions.first.base, events_kept=events_a_partition
        )
        self._documents = DocumentStrings(self._link, self._partitions.first.base)
        self._received = ReceivedKeys(self._link, self._partitions.first.base)
        self._listing = Listing(self._link, self._partitions)
        self._index = Index(self._link, self._partitions)
        self._watcher = watching.LogWatcher(
            self._link, self._watchers, self._partitions, self._check_open
        )
        self._bound_seconds = bound_seconds
        self._followers: list[asyncio.Task[None]] = []
        self._background = BackgroundWrites()
        self._closed = False
        self._unsafe_because = ""

    @classmethod
    async def open(
        cls,
        server: RedisServer,
        *,
        prefix: str = "authsvc",
        unauthenticated_cap: int,
        events_kept: int = 100_000,
        cached_sessions: int = 100_000,
        bound_seconds: float = STALENESS_BOUND_SECONDS,
        on_removed: OnRemoved = ignore_removed,
    ) -> Self:
        """Begin to follow the logs. If the server is unavailable, the store waits for it.

        Args:
            server: which server.
            prefix: what all keys begin with.
            unauthenticated_cap: how many unauthenticated records are kept, spread evenly over the
                partitions.
            events_kept: how many events are kept, about.
            cached_sessions: how many records are cached in memory.
            bound_seconds: how old the cache may be when it answers.
            on_removed: is called with each record that this process removes.

        Raises:
            ValueError: the server may evict keys.
        """
        store = cls(
            server,
            prefix=prefix,
            unauthenticated_cap=unauthenticated_cap,
            events_kept=events_kept,
            cached_sessions=cached_sessions,
            bound_seconds=bound_seconds,
            on_removed=on_removed,
        )
        try:
            await store._check_server()
        except AuthError:
            if store._unsafe_because:
                await store.close()
                raise ValueError(store._unsafe_because) from None
            # Unavailable for now: the followers try again.
        store._followers = [
            asyncio.create_task(
                partition.follow(store._feed, store._link, check=store._check_server)
            )
            for partition in store._partitions
        ]
        return store

    @property
    def ready(self) -> bool:
        """See ``SessionStore.ready``."""
        return not self._closed and self._partitions.age_seconds() < UNAVAILABLE_SECONDS

    async def server_times(self) -> tuple[float, ...]:
        """See ``SessionStore.server_times``."""
        self._check_open()
        return await self._link.times()

    # Records.

    def cached_record(self, session_id: str, consistency_token: str = "") -> Record | None:
        """See ``SessionStore.cached_record``."""
        partition = self._partitions.of(session_id)
        return (
            partition.cache.get(session_id)
            if self._is_current(partition, consistency_token)
            else None
        )

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        self._check_open()
        partition = self._partitions.of(session_id)
        with partition.cache.fetch(session_id) as fetch:
            value = await self._link.ask("GET", partition.record_key(session_id))
            if value is None:
                return None
            record = decode_value(session_id, value)
            fetch.put(record)
        return record

    async def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        self._check_open()
        partition = self._partitions.of(record.id)
        with partition.cache.fetch(record.id) as fetch:
            token = await self._writes.put(partition, record, event)
            if token is not None:
                fetch.put(record)
        return token

    async def confirm(self, record: Record) -> None:
        """See ``SessionStore.confirm``."""
        self._check_open()
        if self._replicas:
            await self._writes.confirm(self._partitions.of(record.id), record)

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        partition = self._partitions.of(record.id)
        partition.cache.touch(record)
        self._background.start(self._writes.touch(partition, record))

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        self._check_open()
        partition = self._partitions.of(record.id)
        await self._writes.remove(partition, record)
        partition.cache.removed(record.id)

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        self._check_open()
        removed = sum([await self._writes.sweep(it, now) for it in self._partitions])
        await self._index.repair()
        return removed

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """See ``SessionStore.page``."""
        self._check_open()
        return await self._listing.page(which, after=after, size=size)

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        """See ``SessionStore.records_of``."""
        self._check_open()
        return await self._listing.records_of(issuer, subject, most)

    async def count(self, now: float) -> SessionCounts:
        """See ``SessionStore.count``."""
        self._check_open()
        return await self._index.count(now)

    async def space(self) -> StoreSpace | None:
        """See ``SessionStore.space``. It is that of the fullest node."""
        self._check_open()
        return space_of(by_node(await self._link.ask("INFO")))

    # Not-befores.

    async def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        self._check_open()
        partition = self._partitions.first
        position = await self._not_befores.set(not_before)
        partition.cache.not_befores.add(not_before)
        return partition.consistency_token(position)

    def cached_not_befores(self, consistency_token: str = "") -> NotBefores | None:
        """See ``SessionStore.cached_not_befores``."""
        partition = self._partitions.first
        return (
            partition.cache.not_befores if self._is_current(partition, consistency_token) else None
        )

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """See ``SessionStore.get_not_befores``."""
        self._check_open()
        return await self._not_befores.get(keys)

    async def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        self._check_open()
        await self._not_befores.delete(set_before)
        self._partitions.first.cache.not_befores.drop(set_before)

    # Documents.

    async def document(self, name: str) -> Document | None:
        """See ``DocumentStore.document``."""
        self._check_open()
        return await self._documents.get(name)

    async def confirm_document(self, name: str) -> None:
        """See ``DocumentStore.confirm_document``."""
        self._check_open()
        if self._replicas:
            await self._documents.confirm(name)

    async def put_document(self, name: str, document: Document) -> bool:
        """See ``DocumentStore.put_document``."""
        self._check_open()
        return await self._documents.put(name, document)

    # Received messages.

    async def is_received(self, key: str) -> bool:
        """See ``ReceivedStore.is_received``."""
        self._check_open()
        return await self._received.contains(key)

    async def mark_received(self, key: str, until: float) -> None:
        """See ``ReceivedStore.mark_received``."""
        self._check_open()
        await self._received.mark(key, until)

    # The log.

    async def append(self, event: SessionEvent) -> None:
        """See ``SessionStore.append``."""
        record = event.record
        if record is not None:
            partition = self._partitions.of(record.id)
            self._background.start(self._writes.append(partition, record, event))

    async def position(self) -> str:
        """See ``SessionStore.position``."""
        self._check_open()
        return await self._watcher.position()

    def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        """See ``SessionStore.watch``."""
        return self._watcher.watch(position)

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        if self._closed:
            return
        self._closed = True
        await end(self._followers)
        await self._background.close()
        for link in (self._link, self._feed, self._watchers):
            await link.close()

    def _is_current(self, partition: Partition, consistency_token: str) -> bool:
        """Whether a partition's cache may answer a caller who has seen a write."""
        if self._closed or partition.age_seconds() > self._bound_seconds:
            return False
        return not consistency_token or partition.has_applied(consistency_token)

    async def _check_server(self) -> None:
        """Check that the server evicts no keys.

        Raises:
            AuthError: STORE_UNAVAILABLE: it cannot be reached, or may evict keys. In the second
                case the store answers nothing until it is safe.
        """
        policy = await self._link.eviction_policy()
        self._unsafe_because = ""
        if policy and policy != REQUIRED_POLICY:
            self._unsafe_because = (
                f"the server's maxmemory-policy is {policy}: when its memory is full it would drop "
                f"revocations; set it to {REQUIRED_POLICY}"
            )
            raise unavailable(self._unsafe_because)

    def _check_open(self) -> None:
        if self._closed or self._unsafe_because:
            raise unavailable(self._unsafe_because or "closed")
