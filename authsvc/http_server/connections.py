"""All connections of a server: their number, their deadlines and their memory are bounded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from operator import attrgetter

from authsvc.http_server.connection import (
    Connection,
    ConnectionCounts,
    ConnectionHandle,
    Phase,
)
from authsvc.http_server.deadlines import QUIET_REASONS, overdue
from authsvc.http_server.drop_log import DropLog
from authsvc.http_server.settings import HttpLimits
from authsvc.http_server.waiting import WaitingConnections
from authsvc.net.peers import network_of

DRAINED_BYTES = 64 * 1024
"""A client that reads this many bytes in ``write_timeout_seconds`` is not stalled."""

BUFFERED_FRACTION = 7 / 8
"""Of the limit on buffered bytes: what is left after connections were dropped, so that this is
rarely necessary."""

_NOT_SHED = {Phase.ANSWERING, Phase.CLOSING}
"""Phases in which a connection is not dropped for the bytes of its request."""


class Connections:
    """All connections of a server.

    Args:
        limits: the server's limits.
        counts: metrics, kept current.
        max_connections: how many may be open; as configured by default.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: HttpLimits,
        counts: ConnectionCounts | None = None,
        *,
        max_connections: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.counts = counts or ConnectionCounts()
        self.clock = clock
        self._max = max_connections or limits.connections.max_connections
        self._all: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._waiting = WaitingConnections(self._max)
        self._drops = DropLog(self.counts)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def admit(self, handle: ConnectionHandle, address: str) -> Connection | None:
        """Admit a new connection. At the limit, it takes the place of another one.

        Args:
            handle: ends it.
            address: the client's IP address; empty if it has none.

        Returns:
            None if it is rejected; that is counted.
        """
        network = network_of(address)
        per_address = self.limits.connections.max_connections_per_address
        if per_address and network and self._of_address[network] >= per_address:
            self.count_dropped("max_connections_per_address", address)
            return None
        if len(self._all) >= self._max:
            self.count_dropped("max_connections", address)
            if not self.make_room():
                return None
        connection = Connection(handle, network, Phase.NEW, self.clock())
        self._all.add(connection)
        self._of_address[network] += 1
        self._waiting.move(connection, Phase.NEW)
        self.counts.open = len(self._all)
        return connection

    def make_room(self) -> bool:
        """Abort the connection that may be replaced by another.

        Returns:
            Whether there was one.
        """
        connection = self._waiting.first_to_drop()
        if connection is None:
            return False
        self._remove(connection)
        connection.handle.abort()
        return True

    def enter(self, connection: Connection, phase: Phase) -> None:
        """A connection enters a phase."""
        if connection not in self._all:
            return
        # Part of a head is no request yet: a client that sends it slowly keeps its place among
        # those without a request.
        if phase is not Phase.HEAD:
            self._waiting.move(connection, phase)
        # Head and body of a request have one deadline together.
        if not (connection.phase is Phase.HEAD and phase is Phase.BODY):
            connection.since = self.clock()
        connection.phase = phase

    def hold(self, connection: Connection, received: int, unread: int) -> None:
        """Set the bytes of requests and of responses that a connection has in memory."""
        if connection not in self._all:
            return
        self.counts.buffered_bytes += received + unread - connection.held
        connection.received, connection.unread = received, unread
        if self.counts.buffered_bytes > self.limits.connections.max_buffered_bytes:
            self._shed()

    def stall(self, connection: Connection, unread: int) -> None:
        """More bytes of responses wait for a client than its socket takes."""
        connection.stalled = (self.clock(), unread)
        self.hold(connection, connection.received, unread)

    def resume(self, connection: Connection) -> None:
        """A client has read what waited for it."""
        connection.stalled = None
        self.hold(connection, connection.received, 0)

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        self._remove(connection)

    def drop(self, connection: Connection, reason: str) -> None:
        """End a connection, and count it."""
        self.count_dropped(reason, connection.address)
        self.counts.buffered_bytes -= connection.held
        connection.received = connection.unread = 0
        connection.handle.drop(reason)

    def count_dropped(self, reason: str, address: str = "") -> None:
        """Count a connection that was rejected or dropped."""
        self._drops.add(reason, address)

    def abort_all(self) -> None:
        """Abort all connections."""
        for connection in self:
            connection.handle.abort()

    def sweep(self) -> None:
        """End the connections that have exceeded a time limit. Called about once a second."""
        now = self.clock()
        for connection in self:
            if connection not in self._all:
                continue
            self._measure(connection, now)
            if (reason := overdue(connection, self.limits, now)) is None:
                continue
            if reason in QUIET_REASONS:
                connection.handle.abort()
            else:
                self.drop(connection, reason)
        self._drops.flush(now)

    def _measure(self, connection: Connection, now: float) -> None:
        if connection.handle.is_closing() and connection.phase is not Phase.CLOSING:
            self.enter(connection, Phase.CLOSING)
        unread = connection.handle.unread()
        if unread != connection.unread:
            self.hold(connection, connection.received, unread)
        if connection.stalled is not None and connection.stalled[1] - unread >= DRAINED_BYTES:
            connection.stalled = (now, unread)

    def _remove(self, connection: Connection) -> None:
        if connection not in self._all:
            return
        self._all.discard(connection)
        self._waiting.remove(connection)
        self.counts.buffered_bytes -= connection.held
        self.counts.open = len(self._all)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    def _shed(self) -> None:
        """Drop the connections that hold most bytes, until enough memory is free. A request that is
        being processed keeps its connection, unless its client does not read."""
        target = int(self.limits.connections.max_buffered_bytes * BUFFERED_FRACTION)
        droppable = [
            connection
            for connection in self._all
            if connection.unread or (connection.received and connection.phase not in _NOT_SHED)
        ]
        for connection in sorted(droppable, key=attrgetter("held"), reverse=True):
            if self.counts.buffered_bytes <= target:
                return
            self.drop(connection, "max_buffered_bytes")
