"""Real Valkey servers; they are chaos's, and documented there."""

from __future__ import annotations

from chaos.valkey import (
    HOST,
    SENTINEL_SERVICE,
    Cluster,
    Pair,
    Sentinels,
    Valkey,
    ValkeyError,
    cluster,
    eventually,
    free_port,
    sentinel,
    single,
    with_replica,
)

__all__ = [
    "HOST",
    "SENTINEL_SERVICE",
    "Cluster",
    "Pair",
    "Sentinels",
    "Valkey",
    "ValkeyError",
    "cluster",
    "eventually",
    "free_port",
    "sentinel",
    "single",
    "with_replica",
]
