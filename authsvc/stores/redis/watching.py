"""Watches the logs of all partitions, and merges their events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from authsvc.domain.errors import AuthError, Reason
from authsvc.stores import LoggedEvent
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.log import (
    Entry,
    Position,
    end_of_log,
    parse_position,
    position_text,
    read,
)
from authsvc.stores.redis.partition import Partition
from authsvc.stores.redis.partitions import Partitions
from authsvc.stores.redis.tasks import end

POLL_MS = 1_000
"""How long the server waits for a new event before it answers a watcher that there is none."""

CLOSED_CHECK_SECONDS = 0.2
"""How long a watcher goes on after the store has been closed."""

_Item = tuple[int, Entry] | AuthError


class LogWatcher:
    """Reads the events of all partitions. A position is one for each partition, in their order.

    Args:
        commands: for the ends of the logs.
        feed: waits for new events, for ``POLL_MS`` at a time.
        partitions: whose logs are watched.
        check_open: raises ``AuthError`` once the store is closed.
    """

    def __init__(
        self, commands: Link, feed: Link, partitions: Partitions, check_open: Callable[[], None]
    ) -> None:
        self._commands = commands
        self._feed = feed
        self._partitions = partitions
        self._check_open = check_open

    async def position(self) -> str:
        """See ``SessionStore.position``."""
        return _text(await self._ends())

    async def watch(self, position: str) -> AsyncGenerator[LoggedEvent, None]:
        """See ``SessionStore.watch``."""
        self._check_open()
        positions = self._parsed(position) if position else await self._ends()
        # One event at a time: while a caller is slow, nothing more is read.
        items: asyncio.Queue[_Item] = asyncio.Queue(1)
        readers = [
            asyncio.create_task(self._read_into(items, partition, after))
            for partition, after in zip(self._partitions, positions, strict=True)
        ]
        try:
            while True:
                self._check_open()
                try:
                    async with asyncio.timeout(CLOSED_CHECK_SECONDS):
                        item = await items.get()
                except TimeoutError:
                    continue
                if isinstance(item, AuthError):
                    raise item
                number, entry = item
                positions[number] = entry.position
                event = entry.event()
                if event is not None:
                    yield LoggedEvent(_text(positions), event)
        finally:
            await end(readers)

    async def _read_into(
        self, items: asyncio.Queue[_Item], partition: Partition, after: Position
    ) -> None:
        try:
            while True:
                _, entries = await read(self._feed, partition.base, after, wait_ms=POLL_MS)
                for entry in entries:
                    await items.put((partition.number, entry))
                    after = entry.position
        except AuthError as error:
            await items.put(error)

    async def _ends(self) -> list[Position]:
        return [
            (await end_of_log(self._commands, partition.base))[1] for partition in self._partitions
        ]

    def _parsed(self, position: str) -> list[Position]:
        try:
            positions = [parse_position(text) for text in position.split(",")]
        except ValueError:
            positions = []
        if len(positions) != len(self._partitions):
            raise AuthError(Reason.ARGUMENT_INVALID, "not a position of this log")
        return positions


def _text(positions: list[Position]) -> str:
    return ",".join(map(position_text, positions))
