"""The memory of a server, and whether it persists what it holds: from its answer to INFO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authsvc.domain.service_status import StoreSpace

Info = Mapping[str, Any]
"""An answer to INFO, as the client parses it."""

PERSISTENCE_STATUSES = {
    "aof_last_write_status": "its last write to the append-only file failed",
    "aof_last_bgrewrite_status": "its last rewrite of the append-only file failed",
    "rdb_last_bgsave_status": "its last snapshot (BGSAVE) failed",
}
"""The statuses that are "ok" while the server persists what it holds; and what another one means.
Absent ones are of what is not in use."""


def by_node(info: Any) -> Mapping[str, Info]:  # noqa: ANN401 - the client's
    """INFO by node: a cluster answers by node, a single server without."""
    if "redis_version" in info:
        return {"the server": info}
    return {str(node): of_node for node, of_node in info.items()}


def persistence_faults(info: Info) -> list[str]:
    """What the server could not write to its disk; empty if it could."""
    return [
        fault
        for status, fault in PERSISTENCE_STATUSES.items()
        if str(info.get(status, "ok")) != "ok"
    ]


def memory_of(info: Info) -> tuple[int, int]:
    """Bytes in use, and ``maxmemory`` in bytes; 0 if there is no limit."""
    return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))


def space_of(nodes: Mapping[str, Info]) -> StoreSpace:
    """The memory of the node that is the fullest by its limit, or by its use where none has one.

    Args:
        nodes: INFO by node; one at least.
    """
    memories = map(memory_of, nodes.values())
    used, limit = max(memories, key=lambda it: (it[0] / it[1] if it[1] else 0.0, it[0]))
    return StoreSpace(
        kind="memory",
        used_bytes=used,
        limit_bytes=limit or None,
        persistence_ok=not any(map(persistence_faults, nodes.values())),
    )
