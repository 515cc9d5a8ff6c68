"""Servers that belong together: a replica, sentinels, a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaos.valkey.probes import ask, eventually, follows, in_sync, info, is_primary, owns, raw
from chaos.valkey.server import HOST, Valkey, free_port, fresh, single

SLOTS = 16_384
SENTINEL_SERVICE = "sessions"
"""The name by which sentinels know the primary."""


class _Sentinel(Valkey):
    """A sentinel. It keeps what it knows in its configuration file, which therefore has to be."""

    def __init__(self, folder: Path, primary: Valkey, down_after_ms: int) -> None:
        super().__init__(folder, "--sentinel")
        name = SENTINEL_SERVICE
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor {name} {HOST} {primary.port} 2\n"
            f"sentinel down-after-milliseconds {name} {down_after_ms}\n"
            f"sentinel failover-timeout {name} 2000\n"
            "loglevel notice\n"
        )

    def _config(self) -> Sequence[str]:
        return (str(self.folder / "sentinel.conf"),)


@dataclass(frozen=True)
class Pair:
    """A primary and its replica."""

    primary: Valkey
    replica: Valkey


@dataclass(frozen=True)
class Sentinels:
    """A primary, its replica, and the three sentinels that watch them, as they began.

    Attributes:
        service: the name by which the sentinels know the primary.
    """

    primary: Valkey
    replica: Valkey
    sentinels: tuple[Valkey, ...]
    service: str = SENTINEL_SERVICE

    def current_primary(self) -> Valkey:
        """Which of the two takes writes now.

        Raises:
            ValkeyError: neither does in time.
        """

        def found() -> Valkey | None:
            return next((one for one in (self.primary, self.replica) if is_primary(one)), None)

        return eventually(found, "a primary")


@dataclass(frozen=True)
class Cluster:
    """Nodes of a cluster, as they began.

    Attributes:
        primaries: in the order of their slots.
        replicas: the primaries' first ones, in the same order, then their second ones.
    """

    primaries: tuple[Valkey, ...]
    replicas: tuple[Valkey, ...]

    @property
    def nodes(self) -> tuple[Valkey, ...]:
        """All of them."""
        return self.primaries + self.replicas

    def primary_of(self, key: str) -> Valkey:
        """Which of ``nodes`` answers for a key now.

        Raises:
            ValkeyError: none does in time.
        """

        def owner() -> Valkey | None:
            return next((node for node in self.nodes if owns(node, key)), None)

        return eventually(owner, f"a primary of {key}")

    def replica_of(self, primary: Valkey) -> Valkey:
        """A replica of a node, as they are now.

        Raises:
            ValkeyError: it has none in time.
        """

        def replica() -> Valkey | None:
            return next((node for node in self.nodes if follows(node, primary)), None)

        return eventually(replica, f"a replica of {primary.port}")


@contextmanager
def with_replica(folder: Path, *arguments: str) -> Iterator[Pair]:
    """A primary and a replica that is in sync.

    Raises:
        ValkeyError: they do not come up.
    """
    with single(folder, "--repl-diskless-sync-delay", "0", *arguments) as primary:
        following = ("--replicaof", HOST, str(primary.port))
        with single(folder, *following, *arguments) as replica:
            eventually(partial(in_sync, replica), "a replica in sync")
            yield Pair(primary, replica)


@contextmanager
def sentinel(folder: Path, *, down_after_ms: int = 500) -> Iterator[Sentinels]:
    """A primary, its replica and three sentinels that know them all.

    Args:
        folder: where they keep their files.
        down_after_ms: a primary that is silent for so long is replaced; that takes about 0.5 s.

    Raises:
        ValkeyError: they do not come up.
    """
    with with_replica(folder) as pair, ExitStack() as running:
        sentinels = []
        for _ in range(3):
            one = _Sentinel(fresh(folder), pair.primary, down_after_ms)
            running.callback(one.end)
            one.start()
            # Without it they take ten seconds to find each other and the replica.
            ask(one, "SENTINEL", "DEBUG", "info-period", 200, "publish-period", 100)
            sentinels.append(one)
        for one in sentinels:
            eventually(partial(_knows_all, one), "sentinels that know each other")
        yield Sentinels(pair.primary, pair.replica, tuple(sentinels))


@contextmanager
def cluster(
    folder: Path,
    *arguments: str,
    primaries: int = 3,
    replicas: int = 0,
    node_timeout_ms: int = 1_000,
) -> Iterator[Cluster]:
    """A cluster in which all nodes agree and the replicas, so many for each primary, are in sync.

    Args:
        folder: where they keep their files.
        arguments: for each server.
        primaries: how many.
        replicas: how many for each primary.
        node_timeout_ms: a node that is silent for so long is taken for dead.

    Raises:
        ValkeyError: it does not come about.
    """
    ours = (
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)),
        # A replica takes over however long it has heard nothing, as on a busy machine.
        *("--cluster-replica-validity-factor", "0"),
        *("--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"),
    )
    with ExitStack() as running:
        nodes = [
            # The bus of a node has to listen, too, and not at 10,000 above: ports end at 65,535.
            running.enter_context(
                single(folder, *ours, "--cluster-port", str(free_port()), *arguments)
            )
            for _ in range(primaries * (1 + replicas))
        ]
        made = Cluster(tuple(nodes[:primaries]), tuple(nodes[primaries:]))
        _introduce(made)
        for number, replica in enumerate(made.replicas):
            primary = made.primaries[number % primaries]
            ask(replica, "CLUSTER", "REPLICATE", ask(primary, "CLUSTER", "MYID"))
        for node in made.nodes:
            eventually(partial(_agrees, node, len(made.nodes)), "a cluster that agrees")
        for replica in made.replicas:
            eventually(partial(in_sync, replica), "replicas in sync")
        yield made


def _introduce(made: Cluster) -> None:
    """Hand out the slots, and make all nodes known to the first, which tells the others."""
    count = len(made.primaries)
    for number, primary in enumerate(made.primaries):
        first, end = SLOTS * number // count, SLOTS * (number + 1) // count
        ask(primary, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    first_node, *others = made.nodes
    for number, node in enumerate(made.nodes, start=1):
        ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number)
    for node in others:
        bus = ask(first_node, "CONFIG", "GET", "cluster-port")
        bus_port = bus["cluster-port"] if isinstance(bus, dict) else bus[1]
        ask(node, "CLUSTER", "MEET", HOST, first_node.port, bus_port)
    for node in made.nodes:
        eventually(partial(_knows, node, len(made.nodes)), "nodes that know each other")


def _knows_all(one: Valkey) -> bool:
    known = info(one, "sentinel").get("master0", {})
    return (known.get("sentinels"), known.get("slaves"), known.get("status")) == (3, 1, "ok")


def _knows(node: Valkey, count: int) -> bool:
    lines = str(raw(node, "CLUSTER NODES")).strip().splitlines()
    return len(lines) == count and not any("handshake" in line for line in lines)


def _agrees(node: Valkey, count: int) -> bool:
    text = str(raw(node, "CLUSTER INFO"))
    return "cluster_state:ok" in text and f"cluster_known_nodes:{count}" in text
