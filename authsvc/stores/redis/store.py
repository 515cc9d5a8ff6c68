"""The store: scripts for writes, the replica's memory for repeats, the server for all else."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Self

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import Event, EventType, RecordFilter, event_time
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.stores import STALENESS_BOUND_SECONDS, Logged, Page
from authsvc.stores.paging import Cursor, after_cursor, cursor_of, newest_first, parse_cursor
from authsvc.stores.redis import log as logs
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link, end, unavailable
from authsvc.stores.redis.log import Partition, Position, parse_position, position_text
from authsvc.stores.redis.records import (
    decode_not_before_value,
    decode_value,
    encode_not_before_value,
    encode_value,
    not_before_field,
    subject_index,
    ttl_ms,
)
from authsvc.stores.redis.server import RedisServer

SWEEP_CHUNK = 200
"""Records that one script removes: the server does nothing else meanwhile."""

LIST_CHUNK = 200
"""Records that are read at once for a list."""

SCAN_LIMIT = 10_000
"""Records that one page looks at."""

MAX_IN_BACKGROUND = 1_000
"""Writes that nobody waits for; beyond it they are left out."""

WATCH_POLL_MS = 1_000
"""How long a watcher's question for more waits for an answer."""

WATCH_CHECK_SECONDS = 0.2
"""How long a watcher goes on after the store has been closed."""

AWAY_SECONDS = 2.0
"""A server that has said nothing for so long is away: other replicas may still reach it."""

REQUIRED_POLICY = "noeviction"
"""Under any other a full server drops keys as it likes, revocations among them."""


class RedisStore:
    """See ``SessionStore``. Made by ``open``, on the event loop that it is used on."""

    def __init__(
        self,
        server: RedisServer,
        *,
        prefix: str,
        unauthenticated_cap: int,
        events_kept: int,
        cached_sessions: int,
        bound_seconds: float,
    ) -> None:
        self._server = server
        self._link = Link(server)
        # A late answer is none; and behind a new connection there may be another server, whose log
        # is not quite the one that was followed.
        self._feed = Link(server, timeout_seconds=max(0.25, bound_seconds), repeats=False)
        self._watchers = Link(server, timeout_seconds=2.0 + WATCH_POLL_MS / 1000)
        self._bound_seconds = bound_seconds
        count = server.partitions
        self._cap = -(-unauthenticated_cap // count)
        self._events_kept = -(-events_kept // count)
        self._partitions = [
            Partition(number, f"{prefix}:{{{number}}}", -(-cached_sessions // count))
            for number in range(count)
        ]
        self._followers: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False
        self._unfit = ""

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
    ) -> Self:
        """Begin to follow the logs. A server that is away is waited for, not an error.

        Args:
            server: which.
            prefix: what all keys begin with.
            unauthenticated_cap: how many unauthenticated records are kept; by partition, its share.
            events_kept: how many events, about.
            cached_sessions: how many records are remembered in memory.
            bound_seconds: how old what is remembered may be to be answered from.

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
        )
        try:
            await store._check_server()
        except AuthError:
            if store._unfit:
                await store.close()
                raise ValueError(store._unfit) from None
            # Away, for now.
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
        oldest = max(partition.age_seconds() for partition in self._partitions)
        return not self._closed and oldest < AWAY_SECONDS

    # Records.

    def recall(self, session_id: str, seen: str = "") -> Record | None:
        """See ``SessionStore.recall``."""
        partition = self._partition_of(session_id)
        return partition.recent.get(session_id) if self._may_recall(partition, seen) else None

    async def get(self, session_id: str) -> Record | None:
        """See ``SessionStore.get``."""
        self._check_open()
        partition = self._partition_of(session_id)
        with partition.recent.fetch(session_id) as fetch:
            value = await self._link.ask("GET", _record_key(partition, session_id))
            if value is None:
                return None
            record = _decoded(session_id, value)
            fetch.keep(record)
        return record

    async def put(self, record: Record, event: EventType) -> str | None:
        """See ``SessionStore.put``."""
        self._check_open()
        partition = self._partition_of(record.id)
        with partition.recent.fetch(record.id) as fetch:
            position = await self._link.write(
                scripts.PUT,
                partition.base,
                record.id,
                encode_value(record),
                ttl_ms(record),
                self._cap,
                self._events_kept,
                event.value,
                repr(event_time(event, record)),
            )
            if position is None:
                return None
            fetch.keep(record)
        return _token(partition, position)

    async def confirm(self, record: Record) -> None:
        """See ``SessionStore.confirm``."""
        self._check_open()
        if self._server.acknowledge_replicas:
            partition = self._partition_of(record.id)
            await self._link.write(scripts.CONFIRM, partition.base, record.id, ttl_ms(record))

    async def touch(self, record: Record) -> None:
        """See ``SessionStore.touch``."""
        partition = self._partition_of(record.id)
        partition.recent.touch(record)
        self._spawn(
            self._link.run(
                scripts.TOUCH,
                partition.base,
                record.id,
                record.revision,
                repr(record.create_time),
                repr(record.last_seen_time),
                repr(record.expire_time),
                ttl_ms(record),
            )
        )

    async def remove(self, record: Record) -> None:
        """See ``SessionStore.remove``."""
        self._check_open()
        partition = self._partition_of(record.id)
        await self._link.run(
            scripts.REMOVE,
            partition.base,
            record.id,
            record.revision,
            repr(record.create_time),
            self._events_kept,
        )
        partition.recent.removed(record.id)

    async def sweep(self, now: float) -> int:
        """See ``SessionStore.sweep``."""
        self._check_open()
        total = 0
        for partition in self._partitions:
            removed = SWEEP_CHUNK
            while removed == SWEEP_CHUNK:
                removed = await self._link.run(
                    scripts.SWEEP, partition.base, repr(now), SWEEP_CHUNK, self._events_kept
                )
                total += removed
        return total

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        """See ``SessionStore.page``."""
        self._check_open()
        cursor = parse_cursor(after)
        if which.issuer and which.subject:
            return await self._page_of_subject(which, after, size)
        found: list[Record] = []
        scanned = 0
        chunk: list[str] = []
        last = after
        async for created, session_id in self._newest(cursor):
            chunk.append(session_id)
            scanned += 1
            last = f"{created!r} {session_id}"
            if len(chunk) == LIST_CHUNK or len(chunk) + len(found) >= size:
                found += [it for it in await self._records(chunk) if which.matches(it)]
                chunk = []
            if len(found) >= size or scanned == SCAN_LIMIT:
                return Page(found, last)
        found += [it for it in await self._records(chunk) if which.matches(it)]
        return Page(found, "")

    # Not-befores.

    async def set_not_before(self, not_before: NotBefore) -> str:
        """See ``SessionStore.set_not_before``."""
        self._check_open()
        partition = self._partitions[0]
        position = await self._link.write(
            scripts.NOT_BEFORE,
            partition.base,
            not_before_field(not_before.key),
            encode_not_before_value(not_before),
            self._events_kept,
            EventType.TOKENS_REVOKED.value,
            repr(not_before.set_time),
        )
        partition.recent.not_befores.add(not_before)
        return _token(partition, position)

    def cached_not_befores(self, seen: str = "") -> NotBefores | None:
        """See ``SessionStore.cached_not_befores``."""
        partition = self._partitions[0]
        return partition.recent.not_befores if self._may_recall(partition, seen) else None

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        """See ``SessionStore.get_not_befores``."""
        self._check_open()
        answers = await self._link.ask(
            "HMGET", f"{self._partitions[0].base}:not_befores", *map(not_before_field, keys)
        )
        not_befores = NotBefores()
        for value in answers:
            if value is not None:
                not_befores.add(_decoded_not_before(value))
        return not_befores

    async def delete_not_befores(self, set_before: float) -> None:
        """See ``SessionStore.delete_not_befores``."""
        self._check_open()
        partition = self._partitions[0]
        for not_before in await logs.all_not_befores(self._link, partition.base):
            if not_before.set_time < set_before:
                field, value = not_before_field(not_before.key), encode_not_before_value(not_before)
                await self._link.run(scripts.FORGET, partition.base, field, value)
        partition.recent.not_befores.drop(set_before)

    # The log.

    async def append(self, event: Event) -> None:
        """See ``SessionStore.append``."""
        record = event.record
        if record is None:
            return
        partition = self._partition_of(record.id)
        self._spawn(
            self._link.run(
                scripts.APPEND,
                partition.base,
                event.type.value,
                repr(event.time),
                record.id,
                encode_value(record),
                self._events_kept,
            )
        )

    async def position(self) -> str:
        """See ``SessionStore.position``."""
        self._check_open()
        return ",".join(map(position_text, await self._ends()))

    async def watch(self, position: str = "") -> AsyncGenerator[Logged, None]:
        """See ``SessionStore.watch``."""
        self._check_open()
        positions = self._parsed(position) if position else await self._ends()
        # One event at a time: a reader that is slow holds back the questions for more.
        ready: asyncio.Queue[tuple[int, logs.Entry] | AuthError] = asyncio.Queue(1)
        readers = [
            asyncio.create_task(self._read_into(ready, partition, after))
            for partition, after in zip(self._partitions, positions, strict=True)
        ]
        try:
            while True:
                self._check_open()
                try:
                    async with asyncio.timeout(WATCH_CHECK_SECONDS):
                        item = await ready.get()
                except TimeoutError:
                    continue
                if isinstance(item, AuthError):
                    raise item
                number, entry = item
                positions[number] = entry.position
                event = _event(entry)
                if event is not None:
                    yield Logged(",".join(map(position_text, positions)), event)
        finally:
            await end(readers)

    async def close(self) -> None:
        """See ``SessionStore.close``."""
        if self._closed:
            return
        self._closed = True
        await end(self._followers)
        await asyncio.gather(*self._background)
        for link in (self._link, self._feed, self._watchers):
            await link.close()

    def _partition_of(self, session_id: str) -> Partition:
        count = len(self._partitions)
        return self._partitions[zlib.crc32(session_id.encode()) % count if count > 1 else 0]

    def _may_recall(self, partition: Partition, seen: str) -> bool:
        if self._closed or partition.age_seconds() > self._bound_seconds:
            return False
        return not seen or _has_seen(partition, seen)

    async def _check_server(self) -> None:
        """
        Raises:
            AuthError: STORE_UNAVAILABLE: it is away, or unfit; then nothing is asked of it.
        """
        policy = await self._link.eviction_policy()
        self._unfit = ""
        if policy and policy != REQUIRED_POLICY:
            self._unfit = (
                f"the server's maxmemory-policy is {policy}: when its memory is full it would drop "
                f"revocations; set it to {REQUIRED_POLICY}"
            )
            raise unavailable(self._unfit)

    async def _records(self, session_ids: Iterable[str]) -> list[Record]:
        """What is stored under ids, in their order; without those that are gone."""
        by_partition: defaultdict[int, list[str]] = defaultdict(list)
        ordered = list(session_ids)
        for session_id in ordered:
            by_partition[self._partition_of(session_id).number].append(session_id)
        found: dict[str, Record] = {}
        for number, ids in by_partition.items():
            keys = [_record_key(self._partitions[number], it) for it in ids]
            values = await self._link.ask("MGET", *keys)
            for session_id, value in zip(ids, values, strict=True):
                if value is not None:
                    found[session_id] = _decoded(session_id, value)
        return [found[session_id] for session_id in ordered if session_id in found]

    async def _page_of_subject(self, which: RecordFilter, after: str, size: int) -> Page:
        index = subject_index(which.issuer, which.subject)
        older = after_cursor(after)
        found: list[Record] = []
        for partition in self._partitions:
            members = await self._link.ask("SMEMBERS", f"{partition.base}:u:{index}")
            ids = [member.decode() for member in members]
            for first in range(0, len(ids), LIST_CHUNK):
                records = await self._records(ids[first : first + LIST_CHUNK])
                found += [it for it in records if which.matches(it) and older(it)]
        found.sort(key=newest_first)
        return Page(found[:size], cursor_of(found[size - 1]) if len(found) > size else "")

    async def _newest(self, cursor: Cursor | None) -> AsyncIterator[Cursor]:
        """The place of every record after ``cursor``, over all partitions."""
        sources = [self._newest_of(partition, cursor) for partition in self._partitions]
        heads = [(head, source) for source in sources if (head := await anext(source, None))]
        while heads:
            index = max(range(len(heads)), key=lambda number: heads[number][0])
            head, source = heads[index]
            yield head
            following = await anext(source, None)
            if following is None:
                heads.pop(index)
            else:
                heads[index] = following, source

    async def _newest_of(
        self, partition: Partition, cursor: Cursor | None
    ) -> AsyncGenerator[Cursor, None]:
        newest = repr(cursor[0]) if cursor else "+inf"
        offset = 0
        while True:
            answer = await self._link.ask(
                "ZRANGE", f"{partition.base}:created", newest, "-inf", "BYSCORE", "REV",
                "LIMIT", offset, LIST_CHUNK, "WITHSCORES",
            )  # fmt: skip
            places = list(zip(answer[::2], answer[1::2], strict=True))
            for member, score in places:
                place = (float(score), member.decode())
                if cursor is None or place < cursor:
                    yield place
            if len(places) < LIST_CHUNK:
                return
            offset += LIST_CHUNK

    async def _ends(self) -> list[Position]:
        return [
            (await logs.end_of_log(self._link, partition.base))[1] for partition in self._partitions
        ]

    def _parsed(self, position: str) -> list[Position]:
        try:
            positions = [parse_position(text) for text in position.split(",")]
        except ValueError:
            positions = []
        if len(positions) != len(self._partitions):
            raise AuthError(Reason.ARGUMENT_INVALID, "no position of this log")
        return positions

    async def _read_into(
        self,
        ready: asyncio.Queue[tuple[int, logs.Entry] | AuthError],
        partition: Partition,
        after: Position,
    ) -> None:
        try:
            while True:
                _, entries = await logs.read(
                    self._watchers, partition.base, after, wait_ms=WATCH_POLL_MS
                )
                for entry in entries:
                    await ready.put((partition.number, entry))
                    after = entry.position
        except AuthError as error:
            await ready.put(error)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have something done that nobody waits for."""
        if self._closed or len(self._background) >= MAX_IN_BACKGROUND:
            work.close()
            return
        task = asyncio.create_task(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _check_open(self) -> None:
        if self._closed or self._unfit:
            raise unavailable(self._unfit or "closed")


async def _quietly(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(AuthError):
        await work


def _record_key(partition: Partition, session_id: str) -> str:
    return f"{partition.base}:s:{session_id}"


def _token(partition: Partition, position: bytes) -> str:
    """A consistency token: a partition, and a place in its log."""
    return f"{partition.number}:{position.decode()}"


_TOKEN = re.compile(r"([0-9]{1,3}):([0-9]{1,20}-[0-9]{1,20})", re.ASCII)


def _has_seen(partition: Partition, token: str) -> bool:
    """Whether what is remembered holds what the token stands for. One that cannot be read might
    stand for anything."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return False
    number, position = match.groups()
    return int(number) != partition.number or parse_position(position) <= partition.position


def _decoded(session_id: str, value: bytes) -> Record:
    try:
        return decode_value(session_id, value)
    except ValueError as error:
        raise unavailable(str(error)) from None


def _decoded_not_before(value: bytes) -> NotBefore:
    try:
        return decode_not_before_value(value)
    except ValueError as error:
        raise unavailable(str(error)) from None


def _event(entry: logs.Entry) -> Event | None:
    try:
        return entry.event()
    except ValueError as error:
        raise unavailable(str(error)) from None
