"""One connection as its server tracks it: its phase, its address, and the bytes it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol


class Phase(Enum):
    """What a connection waits for."""

    NEW = auto()  # the first byte of its first request; the TLS handshake before it
    HEAD = auto()  # the rest of a request's head
    BODY = auto()  # the rest of a request's body
    ANSWERING = auto()  # the app's response
    IDLE = auto()  # the first byte of a further request
    CLOSING = auto()  # the client, to read the rest of the last response


class ConnectionHandle(Protocol):
    """How the server ends a connection, and what it asks of it."""

    def drop(self, reason: str) -> None:
        """End the connection, with an error response where one is still possible."""

    def abort(self) -> None:
        """End the connection at once."""

    def unread(self) -> int:
        """Bytes of responses that wait to be sent."""

    def is_closing(self) -> bool:
        """Whether the connection was closed and waits for the client to read the rest."""

    def reads(self) -> bool:
        """Whether the server reads the client's bytes at present."""


@dataclass(eq=False, slots=True)
class Connection:
    """One connection.

    Attributes:
        handle: ends it.
        address: the client's network, as ``peers.network_of`` gives it; empty if it has none.
        phase: what it waits for.
        since: when that wait began, in seconds of the server's clock.
        received: bytes of requests in memory.
        unread: bytes of responses in memory.
        stalled: when the client last read enough, and ``unread`` at that time; None while all
            responses fit into the socket.
    """

    handle: ConnectionHandle
    address: str
    phase: Phase
    since: float
    received: int = 0
    unread: int = 0
    stalled: tuple[float, int] | None = None

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self.received + self.unread


@dataclass(slots=True)
class ConnectionCounts:
    """The server's metrics about connections.

    Attributes:
        open: open connections.
        buffered_bytes: bytes that they hold in memory.
        dropped: connections that were rejected or dropped, by reason.
    """

    open: int = 0
    buffered_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
