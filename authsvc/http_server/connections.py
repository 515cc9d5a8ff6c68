"""All connections of a server: how many, since when they wait for what, and what they hold."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import attrgetter
from typing import Protocol

from authsvc.http_server.settings import Limits

log = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""For a client to read why it is refused, before its connection is gone."""

LOG_SECONDS = 1.0
"""Between two lines about dropped connections."""

DRAINED_BYTES = 64 * 1024
"""What a client has to read in ``write_timeout_seconds``, to be one that reads."""

KEPT_SHARE = 7 / 8
"""Of the limit on bytes: what is left after some were dropped, so that it is rarely done."""

NEW_SHARE = 1 / 4
"""Of all connections, those that may wait for a first request before they lose their places to
newer ones; with fewer, the ones that idle after an answer do."""


class Phase(Enum):
    """What a connection waits for."""

    NEW = auto()  # the first byte of its first request; TLS before
    HEAD = auto()  # the rest of a head
    BODY = auto()  # the rest of a body
    ANSWERING = auto()  # the app
    IDLE = auto()  # the first byte of a further request
    CLOSING = auto()  # the client, to read the end


class Wire(Protocol):
    """What is done with a connection."""

    def drop(self, reason: str) -> None:
        """End it, with an answer where one is possible."""

    def abort(self) -> None:
        """End it at once."""

    def unread(self) -> int:
        """Bytes that wait to be sent."""

    def is_closing(self) -> bool:
        """Whether it was closed, and waits for the client to read the rest."""

    def reads(self) -> bool:
        """Whether the client's bytes are being read."""


@dataclass(eq=False, slots=True)
class Connection:
    """One connection.

    Attributes:
        wire: what it is.
        address: whose.
        phase: what it waits for.
        since: since when, in seconds of the clock.
        received: bytes of requests that are kept.
        unread: bytes of answers that are kept.
        stalled: since when the client has read too little, and what was unread then.
    """

    wire: Wire
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
class Counts:
    """What operators see of connections.

    Attributes:
        open: how many there are.
        buffered_bytes: what they hold.
        dropped: how many were, by reason.
    """

    open: int = 0
    buffered_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Connections:
    """All connections of a server.

    Args:
        limits: theirs.
        counts: kept current.
        max_connections: how many there may be; as configured by default.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: Limits,
        counts: Counts | None = None,
        *,
        max_connections: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.counts = counts or Counts()
        self.clock = clock
        self._max = max_connections or limits.connections.max_connections
        self._all: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        # Each in the order in which they came; dicts, since removal takes constant time.
        self._waiting: dict[Phase, dict[Connection, None]] = {
            Phase.CLOSING: {},
            Phase.NEW: {},
            Phase.IDLE: {},
            Phase.BODY: {},
        }
        self._unlogged: Counter[str] = Counter()
        self._last_address = ""
        self._logged_at = float("-inf")

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def admit(self, wire: Wire, address: str) -> Connection | None:
        """Take a new connection, if need be in the place of another.

        Args:
            wire: what it is.
            address: the client's IP address; empty if it has none.

        Returns:
            None if it is refused, which is counted.
        """
        source = network_of(address)
        per_address = self.limits.connections.max_connections_per_address
        if per_address and source and self._of_address[source] >= per_address:
            self.note("max_connections_per_address", address)
            return None
        if len(self._all) >= self._max:
            self.note("max_connections", address)
            if (victim := self._dispensable()) is None:
                return None
            self._remove(victim)
            victim.wire.abort()
        connection = Connection(wire, source, Phase.NEW, self.clock())
        self._all.add(connection)
        self._of_address[source] += 1
        self._waiting[Phase.NEW][connection] = None
        self.counts.open = len(self._all)
        return connection

    def make_room(self) -> None:
        """Drop a connection for another, if one may be."""
        if (victim := self._dispensable()) is not None:
            self._remove(victim)
            victim.wire.abort()

    def _dispensable(self) -> Connection | None:
        """Whose place another may have: the one that has been without a request for longest. Where
        all have one, the one whose body has been arriving for longest: nobody works for it yet."""
        new = self._waiting[Phase.NEW]
        order = [Phase.CLOSING, Phase.IDLE, Phase.NEW, Phase.BODY]
        if len(new) > self._max * NEW_SHARE:
            order = [Phase.CLOSING, Phase.NEW, Phase.IDLE, Phase.BODY]
        for phase in order:
            for connection in self._waiting[phase]:
                return connection
        return None

    def enter(self, connection: Connection, phase: Phase) -> None:
        """A connection now waits for something else."""
        if connection not in self._all:
            return
        # Before its head is whole, a request is none: a connection that drips it keeps its place
        # among those without.
        if phase is not Phase.HEAD:
            for places in self._waiting.values():
                places.pop(connection, None)
            if phase in self._waiting:
                self._waiting[phase][connection] = None
        # A request has one time to arrive, head and body.
        if not (connection.phase is Phase.HEAD and phase is Phase.BODY):
            connection.since = self.clock()
        connection.phase = phase

    def hold(self, connection: Connection, received: int, unread: int) -> None:
        """A connection now keeps this many bytes of requests and answers."""
        if connection not in self._all:
            return
        self.counts.buffered_bytes += received + unread - connection.held
        connection.received, connection.unread = received, unread
        if self.counts.buffered_bytes > self.limits.connections.max_buffered_bytes:
            self._shed()

    def stall(self, connection: Connection, unread: int) -> None:
        """What waits for a client is more than a socket takes."""
        connection.stalled = (self.clock(), unread)
        self.hold(connection, connection.received, unread)

    def resume(self, connection: Connection) -> None:
        """A client has read."""
        connection.stalled = None
        self.hold(connection, connection.received, 0)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._remove(connection)

    def _remove(self, connection: Connection) -> None:
        if connection not in self._all:
            return
        self._all.discard(connection)
        for places in self._waiting.values():
            places.pop(connection, None)
        self.counts.buffered_bytes -= connection.held
        self.counts.open = len(self._all)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    def _shed(self) -> None:
        """Drop those that hold most, of those whom nobody works for yet, or who do not read."""
        target = int(self.limits.connections.max_buffered_bytes * KEPT_SHARE)
        droppable = [
            connection
            for connection in self._all
            if connection.unread or (connection.received and connection.phase not in _KEPT)
        ]
        for connection in sorted(droppable, key=attrgetter("held"), reverse=True):
            if self.counts.buffered_bytes <= target:
                return
            self.drop(connection, "max_buffered_bytes")

    def drop(self, connection: Connection, reason: str) -> None:
        """End a connection, and count it."""
        self.note(reason, connection.address)
        self.counts.buffered_bytes -= connection.held
        connection.received = connection.unread = 0
        connection.wire.drop(reason)

    def note(self, reason: str, address: str = "") -> None:
        """Count a connection that was refused or dropped."""
        self.counts.dropped[reason] += 1
        self._unlogged[reason] += 1
        self._last_address = address

    def end(self) -> None:
        """End all."""
        for connection in self:
            connection.wire.abort()

    def sweep(self) -> None:
        """Drop what has waited for too long. Called about once a second."""
        now = self.clock()
        for connection in self:
            if connection not in self._all:
                continue
            self._measure(connection, now)
            if (reason := self._late(connection, now)) is None:
                continue
            if reason in {"idle", "closing"}:
                connection.wire.abort()
            else:
                self.drop(connection, reason)
        self._log_dropped(now)

    def _measure(self, connection: Connection, now: float) -> None:
        if connection.wire.is_closing() and connection.phase is not Phase.CLOSING:
            self.enter(connection, Phase.CLOSING)
        unread = connection.wire.unread()
        if unread != connection.unread:
            self.hold(connection, connection.received, unread)
        if connection.stalled is not None and connection.stalled[1] - unread >= DRAINED_BYTES:
            connection.stalled = (now, unread)

    def _late(self, connection: Connection, now: float) -> str | None:
        """Why a connection is dropped now, if it is."""
        settings = self.limits.connections
        waited = now - connection.since
        stalled = connection.stalled
        if stalled is not None and now - stalled[0] >= settings.write_timeout_seconds:
            return "write_timeout"
        match connection.phase:
            case Phase.NEW | Phase.HEAD if waited >= settings.header_timeout_seconds:
                return "header_timeout"
            case Phase.BODY if waited >= settings.request_timeout_seconds:
                return "request_timeout" if connection.wire.reads() else None
            case Phase.IDLE if waited >= self.limits.keep_alive_seconds:
                return "idle"
            case Phase.CLOSING:
                limit_seconds = (
                    settings.write_timeout_seconds if connection.unread else LINGER_SECONDS
                )
                return "closing" if waited >= limit_seconds else None
        return None

    def _log_dropped(self, now: float) -> None:
        if not self._unlogged or now - self._logged_at < LOG_SECONDS:
            return
        dropped = dict(self._unlogged)
        self._unlogged.clear()
        self._logged_at = now
        log.warning(
            "connections dropped: %s",
            ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())),
            extra={
                "dropped": dropped,
                "last_address": self._last_address,
                "open": len(self._all),
                "buffered_bytes": self.counts.buffered_bytes,
            },
        )


_KEPT = {Phase.ANSWERING, Phase.CLOSING}


def network_of(address: str) -> str:
    """Whose an address is: itself, or its /64 of IPv6, which one client has as a whole."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
