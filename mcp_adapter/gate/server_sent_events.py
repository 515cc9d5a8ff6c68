"""Server-sent events in a response, read as clients read them (HTML, "Server-sent events")."""

from __future__ import annotations

import re
from collections.abc import Callable

_LINE_END = re.compile(rb"\r\n|\n|\r")

_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")
"""The end of a line and an empty line: an event is complete. Neither half of ``\\r\\n`` is an end:
the groups are atomic, and a ``\\r`` at the end of what has come may be half of one."""

_LONGEST_END = 4

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventReader:
    """The events of one stream, whatever pieces they come in.

    Args:
        max_bytes: longest event.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pending = bytearray()
        self._searched = 0

    def complete(self, piece: bytes) -> list[bytes]:
        """The events that a piece completes, each with its end. Joined they are what was read.

        Raises:
            OverflowError: an event is longer than ``max_bytes``.
        """
        self._pending += piece
        events: list[bytes] = []
        begin = 0
        for end in _EVENT_END.finditer(self._pending, self._searched):
            events.append(bytes(self._pending[begin : end.end()]))
            begin = end.end()
        del self._pending[:begin]
        self._searched = max(0, len(self._pending) - _LONGEST_END + 1)
        if max(map(len, (self._pending, *events))) > self._max_bytes:
            raise OverflowError
        return events

    def rest(self) -> bytes:
        """What has come of an event that has no end."""
        rest, self._pending = bytes(self._pending), bytearray()
        return rest


def with_data(event: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An event with its data changed; the same bytes where ``change`` returns the same data.

    Args:
        event: all lines of it.
        change: from the data to those that take their place.
    """
    lines = _LINE_END.split(event.removeprefix(_BYTE_ORDER_MARK))
    data = b"\n".join(_value(line) for line in lines if _is_data(line))
    changed = change(data)
    if changed == data:
        return event
    others = [line for line in lines if line and not _is_data(line)]
    return b"\n".join([*others, b"data: " + changed, b"", b""])


def _is_data(line: bytes) -> bool:
    return line.partition(b":")[0] == b"data"


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].removeprefix(b" ")
