"""How many connections the process may have open."""

from __future__ import annotations

import sys

RESERVED = 256
"""Descriptors for everything but HTTP connections: calls to other servers, files, the metrics."""


def room_for(connections: int) -> int:
    """Raise the soft limit on descriptors as far as needed and allowed.

    Args:
        connections: how many are wanted.

    Returns:
        How many there is room for, ``connections`` at most.
    """
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # With very few, half of them: better slow than not at all.
    return min(connections, max(soft - RESERVED, soft // 2))
