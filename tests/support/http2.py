"""Calls that begin and go no further, as frames: no client library sends half a call."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress

from authsvc.client.http2.call import INITIAL_WINDOW_SIZE
from authsvc.client.http2.flow import DEFAULT_WINDOW
from authsvc.client.http2.frames import END_STREAM, HEADERS, SETTINGS
from bench.http2 import Connection, ConnectionEndedError, Event


class HalfCalls(Connection):
    """A connection whose calls send their headers, and never a request.

    Args:
        target: ``unix:/path`` or ``host:port``.
        method: the RPC that all of them begin.
        service_token: what each presents; empty for none.
    """

    def __init__(self, target: str, method: str, service_token: str = "") -> None:
        super().__init__(target, method)
        if service_token:
            self._first_headers += _literal("authorization", f"Bearer {service_token}")
        # Spelt out each time: what is in the header table is different with a service token.
        self._headers = self._first_headers
        self.ended: list[Event] = []

    async def begin(self, calls: int) -> None:
        """Begin so many, and send them."""
        for _ in range(calls):
            self.open()
        await self.until(lambda: not self.wants_to_write)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Take in what the server says until something is so; to be bounded by the test."""
        while not condition():
            self.flush()
            self.ended += [event for event in self.receive() if event.message is None]
            await asyncio.sleep(0.001)


class UnreadAnswers(HalfCalls):
    """A connection that leaves its server no room for the body of any answer.

    Args:
        target: ``unix:/path`` or ``host:port``.
        method: the RPC that all of its calls are of.
        service_token: what each presents; empty for none.

    Attributes:
        begun: how many have got the head of an answer, which needs no room.
    """

    def __init__(self, target: str, method: str, service_token: str = "") -> None:
        super().__init__(target, method, service_token)
        self.begun = 0
        # After the settings of the connection itself, which allow for much.
        self._set_room(0)

    def make_room(self) -> None:
        """Leave room for answers from now on."""
        self._set_room(DEFAULT_WINDOW)

    async def ask(self, calls: int, request: bytes = b"", *, end: bool = True) -> None:
        """Make so many calls, each with one request, its last one if ``end``."""
        for _ in range(calls):
            self.send(self.open(), request, end=end)
        await self.until(lambda: not (self._blocked or self.wants_to_write))

    async def stay(self) -> None:
        """Stay until the server ends the connection."""
        with suppress(ConnectionEndedError, OSError):
            # Settings are acknowledged, and pings answered: the connection is in order.
            await self.until(lambda: False)

    def _set_room(self, octets: int) -> None:
        setting = struct.pack(">HI", INITIAL_WINDOW_SIZE, octets)
        self._out += len(setting).to_bytes(3) + bytes((SETTINGS, 0)) + bytes(4) + setting

    def _take(self, kind: int, flags: int, stream: int, body: bytes, events: list[Event]) -> None:
        if kind == HEADERS and not flags & END_STREAM:
            self.begun += 1
        super()._take(kind, flags, stream, body, events)


def _literal(name: str, value: str) -> bytes:
    """A header field that is not put into the table (RFC 7541 section 6.2.2)."""
    encoded = (text.encode("ascii") for text in (name, value))
    return b"\x00" + b"".join(bytes((len(text),)) + text for text in encoded)
