"""How many connections the process may have open."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

log = logging.getLogger(__name__)

RESERVED = 256
"""Descriptors for everything but clients' connections: calls to other servers, files, metrics."""


def room_for(connections: int) -> int:
    """Raise the soft limit on descriptors as far as needed and allowed; log what is missing.

    Args:
        connections: how many are wanted.

    Returns:
        How many the limit permits, ``connections`` at most.
    """
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    # The kernel may allow less than its hard limit, as on macOS.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    # If the limit is very low, half of it: slow service is better than none.
    room = min(connections, max(soft - RESERVED, soft // 2))
    if room < connections:
        log.warning(
            "max_connections is lowered to %d: the process may not open more (RLIMIT_NOFILE)",
            room,
            extra={"max_connections": room},
        )
    return room
