"""The log of a partition: reading it, and keeping a replica's memory current by it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from authsvc.domain.errors import AuthError
from authsvc.domain.events import Event, EventType
from authsvc.domain.revocation import NotBefore
from authsvc.stores.recent import Recent
from authsvc.stores.redis.link import Link, unavailable
from authsvc.stores.redis.records import decode_not_before_value, decode_value, version_in

log = logging.getLogger(__name__)

Position = tuple[int, int]
"""The id of a stream's entry: milliseconds, and a number within them."""

BEGINNING: Position = (0, 0)

READ_COUNT = 500
"""Events read at once."""

POLL_MS = 100
"""How long the server holds back its word that nothing has happened. It bounds the age of a quiet
replica's memory; the word that something has comes at once."""

_TYPES = {event_type.value: event_type for event_type in EventType}

RETRY_SECONDS = 0.05
"""Between attempts to follow a log that cannot be read."""


def parse_position(text: str) -> Position:
    """
    Raises:
        ValueError: no position.
    """
    milliseconds, separator, number = text.partition("-")
    if not (separator and milliseconds.isdecimal() and number.isdecimal() and text.isascii()):
        raise ValueError("no position")
    return int(milliseconds), int(number)


def position_text(position: Position) -> str:
    """The inverse of ``parse_position``."""
    return f"{position[0]}-{position[1]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log, its value not decoded yet."""

    position: Position
    event_type: EventType | None
    time: float
    session_id: str
    value: bytes

    def event(self) -> Event | None:
        """
        Returns:
            None for a type that a later version wrote.

        Raises:
            ValueError: the value is of a later format.
        """
        if self.event_type is None:
            return None
        if self.event_type is EventType.TOKENS_REVOKED:
            return Event(self.event_type, self.time, not_before=decode_not_before_value(self.value))
        return Event(self.event_type, self.time, decode_value(self.session_id, self.value))


def entry_of(raw: tuple[bytes, Any]) -> Entry:
    """An entry as the client gives it."""
    position, fields = raw
    if isinstance(fields, list):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(
        parse_position(position.decode()),
        _TYPES.get(int(fields[b"t"])),
        float(fields[b"m"]),
        fields[b"i"].decode(),
        fields[b"v"],
    )


async def read(
    link: Link, base: str, after: Position, *, wait_ms: int | None
) -> tuple[str, list[Entry]]:
    """Entries after a position, and the node that told them; it waits for one if there is none.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    wait = () if wait_ms is None else ("BLOCK", wait_ms)
    node, answer = await link.read_log(
        base, "XREAD", "COUNT", READ_COUNT, *wait, "STREAMS", f"{base}:events", position_text(after)
    )
    if not answer:
        return node, []
    entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
    return node, [entry_of(raw) for raw in entries]


async def end_of_log(link: Link, base: str) -> tuple[str, Position]:
    """The position of the last entry, and the node that told it.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    node, answer = await link.read_log(base, "XREVRANGE", f"{base}:events", "+", "-", "COUNT", 1)
    return node, entry_of(answer[0]).position if answer else BEGINNING


class Partition:
    """What this replica remembers of one partition, and as of when.

    Args:
        number: of the partition.
        base: what its keys begin with.
        cached: how many records are remembered.
    """

    def __init__(self, number: int, base: str, cached: int) -> None:
        self.number = number
        self.base = base
        self.recent = Recent(cached)
        self.position = BEGINNING
        self._as_of = -math.inf
        self._node = ""

    def age_seconds(self) -> float:
        """How old what is remembered may be; infinite while the log is not followed."""
        return time.monotonic() - self._as_of

    async def follow(
        self, link: Link, commands: Link, *, check: Callable[[], Awaitable[None]]
    ) -> None:
        """Keep the memory current, until cancelled.

        Args:
            link: for the log alone, with a short time-out.
            commands: for anything else.
            check: refuses a server that is unfit, each time that it is found again.
        """
        failing = False
        while True:
            try:
                await check()
                await self._begin(link, commands)
                if failing:
                    log.info("the log of %s is followed again", self.base)
                failing = False
                await self._follow(link)
            except AuthError as error:
                self._as_of = -math.inf
                if not failing:
                    log.warning("the log of %s cannot be followed: %s", self.base, error.detail)
                failing = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _begin(self, link: Link, commands: Link) -> None:
        """Forget everything, and go on from the end of the log.

        What was remembered may be of a server that is no longer the one, and the log may have
        fallen behind what was read of it: a replica that took over lacks what was not confirmed.
        """
        node, end = await end_of_log(link, self.base)
        # At once and only now: what is read from here on is at least as new as that end.
        self.recent.clear()
        self.position, self._node = end, node
        if self.number == 0:
            for not_before in await all_not_befores(commands, self.base):
                self.recent.not_befores.add(not_before)
        await self._read_on(link, wait_ms=None)

    async def _follow(self, link: Link) -> None:
        node = self._node
        while node == self._node:
            node = await self._read_on(link, wait_ms=POLL_MS)

    async def _read_on(self, link: Link, *, wait_ms: int | None) -> str:
        # Counted from the question, not from the answer: it may have been long on the way.
        asked = time.monotonic()
        node, entries = await read(link, self.base, self.position, wait_ms=wait_ms)
        try:
            for entry in entries:
                self._apply(entry)
        except ValueError as error:
            raise unavailable(str(error)) from None
        if len(entries) < READ_COUNT and node == self._node:
            self._as_of = asked
        return node

    def _apply(self, entry: Entry) -> None:
        self.position = entry.position
        match entry.event_type:
            case EventType.TOKENS_REVOKED:
                self.recent.not_befores.add(decode_not_before_value(entry.value))
            case EventType.CREATED | EventType.REAUTHENTICATED | EventType.REVOKED:
                self.recent.written(entry.session_id, version_in(entry.value))
            case EventType.SUBJECT_MISMATCH:
                pass
            case _:  # EXPIRED, and what a later version may write
                self.recent.removed(entry.session_id)


async def all_not_befores(link: Link, base: str) -> list[NotBefore]:
    """Every not-before.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    found: list[NotBefore] = []
    cursor = "0"
    while True:
        answer = await link.ask("HSCAN", f"{base}:not_befores", cursor, "COUNT", 1000)
        position, fields = answer
        try:
            found += [decode_not_before_value(value) for value in fields.values()]
        except ValueError as error:
            raise unavailable(str(error)) from None
        cursor = position.decode() if isinstance(position, bytes) else str(position)
        if cursor == "0":
            return found
