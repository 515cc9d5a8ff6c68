"""When a connection has waited for too long."""

from __future__ import annotations

from authsvc.http_server.connection import Connection, Phase
from authsvc.http_server.settings import HttpLimits

LINGER_SECONDS = 2.0
"""Time for a client to read an error response before its connection is aborted."""

QUIET_REASONS = frozenset({"idle", "closing"})
"""Reasons that are no fault of the client: such a connection is closed, and not counted."""


def overdue(connection: Connection, limits: HttpLimits, now: float) -> str | None:
    """The limit that a connection has exceeded.

    Args:
        connection: the connection.
        limits: the server's limits.
        now: seconds of the server's clock.

    Returns:
        The reason to end it, as metrics name it; None while it is within its limits.
    """
    settings = limits.connections
    waited_seconds = now - connection.since
    stalled = connection.stalled
    if stalled is not None and now - stalled[0] >= settings.write_timeout_seconds:
        return "write_timeout"
    match connection.phase:
        case Phase.NEW | Phase.HEAD if waited_seconds >= settings.header_timeout_seconds:
            return "header_timeout"
        case Phase.BODY if waited_seconds >= settings.request_timeout_seconds:
            return "request_timeout" if connection.handle.reads() else None
        case Phase.IDLE if waited_seconds >= limits.keep_alive_seconds:
            return "idle"
        case Phase.CLOSING:
            limit_seconds = settings.write_timeout_seconds if connection.unread else LINGER_SECONDS
            return "closing" if waited_seconds >= limit_seconds else None
    return None
