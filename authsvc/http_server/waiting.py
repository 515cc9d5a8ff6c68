"""Connections in the order in which they began to wait: which one loses its place to a new one."""

from __future__ import annotations

from authsvc.http_server.connection import Connection, Phase

NEW_FRACTION = 1 / 4
"""Of all connections: those that may wait for a first request before they lose their places to
newer ones. With fewer of them, the ones that are idle after a response lose theirs first."""


class WaitingConnections:
    """Connections without a request that is being processed, by phase, the longest wait first.

    Args:
        max_connections: of the server.
    """

    def __init__(self, max_connections: int) -> None:
        self._max = max_connections
        # Dicts in place of lists, since removal takes constant time.
        self._by_phase: dict[Phase, dict[Connection, None]] = {
            Phase.CLOSING: {},
            Phase.NEW: {},
            Phase.IDLE: {},
            Phase.BODY: {},
        }

    def move(self, connection: Connection, phase: Phase) -> None:
        """Put a connection at the end of those in a phase; one that is served is in none."""
        self.remove(connection)
        if phase in self._by_phase:
            self._by_phase[phase][connection] = None

    def remove(self, connection: Connection) -> None:
        """Take a connection out."""
        for waiting in self._by_phase.values():
            waiting.pop(connection, None)

    def first_to_drop(self) -> Connection | None:
        """The connection that loses its place to another: the one that has been without a request
        for longest. Where all have one, the one whose body has been arriving for longest: its
        request has not been processed yet."""
        order = [Phase.CLOSING, Phase.IDLE, Phase.NEW, Phase.BODY]
        if len(self._by_phase[Phase.NEW]) > self._max * NEW_FRACTION:
            order = [Phase.CLOSING, Phase.NEW, Phase.IDLE, Phase.BODY]
        for phase in order:
            for connection in self._by_phase[phase]:
                return connection
        return None
