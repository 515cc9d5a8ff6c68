"""The log of a partition: a stream of events. Positions in it, its entries, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from authsvc.domain.events import EventType, SessionEvent
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.records import decode_not_before_value, decode_value

Position = tuple[int, int]
"""The id of a stream's entry: milliseconds, and a number within them."""

BEGINNING: Position = (0, 0)

READ_COUNT = 500
"""Events that one command reads."""

_TYPES = {event_type.value: event_type for event_type in EventType}


def parse_position(text: str) -> Position:
    """
    Raises:
        ValueError: the text is not a position.
    """
    milliseconds, separator, number = text.partition("-")
    if not (separator and milliseconds.isdecimal() and number.isdecimal() and text.isascii()):
        raise ValueError("not a position")
    return int(milliseconds), int(number)


def position_text(position: Position) -> str:
    """The inverse of ``parse_position``."""
    return f"{position[0]}-{position[1]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log, its value not decoded yet.

    Attributes:
        position: its place in the log.
        event_type: None for a type that a later version wrote.
        time: of the event, in seconds since the epoch.
        session_id: of the record; empty for a not-before.
        value: the record or the not-before, as ``records`` encodes it.
    """

    position: Position
    event_type: EventType | None
    time: float
    session_id: str
    value: bytes

    def event(self) -> SessionEvent | None:
        """The event.

        Returns:
            None for a type that a later version wrote.

        Raises:
            AuthError: STORE_UNAVAILABLE: a later version wrote the value.
        """
        if self.event_type is None:
            return None
        if self.event_type is EventType.TOKENS_REVOKED:
            not_before = decode_not_before_value(self.value)
            return SessionEvent(self.event_type, self.time, not_before=not_before)
        return SessionEvent(self.event_type, self.time, decode_value(self.session_id, self.value))


def _entry_of(raw: tuple[bytes, Any]) -> Entry:
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
    """Entries after a position, ``READ_COUNT`` at most, and the node that returned them.

    Args:
        link: runs the command.
        base: what the partition's keys begin with.
        after: where to read from.
        wait_ms: how long the server waits for an entry if there is none; None: it does not.

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
    return node, [_entry_of(raw) for raw in entries]


async def end_of_log(link: Link, base: str) -> tuple[str, Position]:
    """The position of the last entry, and the node that returned it.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    node, answer = await link.read_log(base, "XREVRANGE", f"{base}:events", "+", "-", "COUNT", 1)
    return node, _entry_of(answer[0]).position if answer else BEGINNING
