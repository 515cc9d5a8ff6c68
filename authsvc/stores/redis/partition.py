"""One partition of the records: its cache, and how the log keeps the cache current."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable

from authsvc.domain.errors import AuthError
from authsvc.domain.events import EventType
from authsvc.stores.record_cache import RecordCache
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.log import BEGINNING, READ_COUNT, Entry, end_of_log, parse_position, read
from authsvc.stores.redis.not_befores import all_not_befores
from authsvc.stores.redis.records import decode_not_before_value, version_in

log = logging.getLogger(__name__)

POLL_MS = 100
"""How long the server waits for a new event before it answers that there is none. It bounds the age
of the cache while nothing is written; a new event is returned at once."""

RETRY_SECONDS = 0.05
"""Between attempts to read a log that cannot be read."""

_CONSISTENCY_TOKEN = re.compile(r"([0-9]{1,3}):([0-9]{1,20}-[0-9]{1,20})", re.ASCII)


class Partition:
    """One partition.

    Args:
        number: of the partition.
        base: what its keys begin with.
        cached: how many records are cached.
    """

    def __init__(self, number: int, base: str, cached: int) -> None:
        self.number = number
        self.base = base
        self.cache = RecordCache(cached)
        self._position = BEGINNING
        self._as_of = -math.inf
        self._node = ""

    def record_key(self, session_id: str) -> str:
        """The key of a record."""
        return f"{self.base}:s:{session_id}"

    def consistency_token(self, position: bytes) -> str:
        """The token of a write that was logged at a position."""
        return f"{self.number}:{position.decode()}"

    def has_applied(self, token: str) -> bool:
        """Whether the cache reflects the write of a consistency token.

        False for a token that cannot be parsed; True for a write in another partition.
        """
        match = _CONSISTENCY_TOKEN.fullmatch(token)
        if match is None:
            return False
        number, position = match.groups()
        return int(number) != self.number or parse_position(position) <= self._position

    def age_seconds(self) -> float:
        """How old the cache may be; infinite while the log cannot be read."""
        return time.monotonic() - self._as_of

    async def follow(
        self, feed: Link, commands: Link, *, check: Callable[[], Awaitable[None]]
    ) -> None:
        """Keep the cache current, until cancelled.

        Args:
            feed: for the log alone, with a short time limit.
            commands: for anything else.
            check: raises ``AuthError`` if the server is unsafe; called after each failure.
        """
        is_failing = False
        while True:
            try:
                await check()
                await self._begin(feed, commands)
                if is_failing:
                    log.info("the log of %s is followed again", self.base)
                is_failing = False
                await self._follow(feed)
            except AuthError as error:
                self._as_of = -math.inf
                if not is_failing:
                    log.warning("the log of %s cannot be followed: %s", self.base, error.detail)
                is_failing = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _begin(self, feed: Link, commands: Link) -> None:
        """Clear the cache, and go on from the end of the log.

        The cache may be of another server, after a failover. And the log may be older than what
        was read before: a replica that took over lacks the writes that it had not confirmed.
        """
        node, end = await end_of_log(feed, self.base)
        # Not before the answer: what is read from now on is at least as new as that end.
        self.cache.clear()
        self._position, self._node = end, node
        if self.number == 0:
            for not_before in await all_not_befores(commands, self.base):
                self.cache.not_befores.add(not_before)
        await self._read_on(feed, wait_ms=None)

    async def _follow(self, feed: Link) -> None:
        node = self._node
        while node == self._node:
            node = await self._read_on(feed, wait_ms=POLL_MS)

    async def _read_on(self, feed: Link, *, wait_ms: int | None) -> str:
        # The age counts from the request: the answer may take long to arrive.
        asked_at = time.monotonic()
        node, entries = await read(feed, self.base, self._position, wait_ms=wait_ms)
        for entry in entries:
            self._apply(entry)
        if len(entries) < READ_COUNT and node == self._node:
            self._as_of = asked_at
        return node

    def _apply(self, entry: Entry) -> None:
        self._position = entry.position
        match entry.event_type:
            case EventType.TOKENS_REVOKED:
                self.cache.not_befores.add(decode_not_before_value(entry.value))
            case EventType.CREATED | EventType.REAUTHENTICATED | EventType.REVOKED:
                self.cache.written(entry.session_id, version_in(entry.value))
            case EventType.SUBJECT_MISMATCH:
                pass
            case _:  # EXPIRED, and types that a later version writes
                self.cache.removed(entry.session_id)
