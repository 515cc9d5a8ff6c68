"""The stage of a run: a store, three replicas over it, the load and the probe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from chaos import valkey
from chaos.clients import balanced, direct
from chaos.history import History
from chaos.identity import Issuer
from chaos.load import Load
from chaos.probe import Probe
from chaos.proxy import Proxy, proxied
from chaos.replicas import Replica, Site, replicas
from chaos.valkey import HOST, Cluster, Sentinels, Valkey

PartT = TypeVar("PartT")

REPLICAS = 3
CLIENTS = 3

StoreKind = Literal["single", "proxied", "sentinel", "cluster"]

REMEMBERED = 1_000
"""Sessions, and tokens, that replicas remember where their memory is watched: a cache that is full
grows no more."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run is made of.

    Attributes:
        store: a single server, one behind a proxy, one with a replica and sentinels, or a cluster
            of three primaries with a replica each.
        can_step_clocks: whether the replicas' clocks can be stepped.
        remembers_little: whether caches are kept small.
    """

    store: StoreKind = "single"
    can_step_clocks: bool = False
    remembers_little: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """The store of a stage: the parts that its kind has.

    Attributes:
        lines: of the replicas' table ``[store]``.
    """

    lines: str
    server: Valkey | None = None
    proxy: Proxy | None = None
    sentinels: Sentinels | None = None
    cluster: Cluster | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a fault can be injected into.

    Attributes:
        replicas: of authsvc.
        history: what is asked and answered.
        seconds: how long a fault lasts.
        tell: prints what happens.
        memory: samples of each replica's, where they are taken: (seconds, KB).
        broken: promises that no call shows to be broken.
    """

    replicas: tuple[Replica, ...]
    history: History
    seconds: float
    tell: Callable[[str], None]
    _store: Store
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @property
    def server(self) -> Valkey:
        """The single server."""
        return _there(self._store.server)

    @property
    def proxy(self) -> Proxy:
        """The proxy in front of the single server."""
        return _there(self._store.proxy)

    @property
    def sentinels(self) -> Sentinels:
        """The server that has a replica and sentinels."""
        return _there(self._store.sentinels)

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return _there(self._store.cluster)

    async def lasts(self) -> None:
        """Wait for as long as a fault lasts."""
        await asyncio.sleep(self.seconds)

    def is_over(self, what: str) -> None:
        """Note that the fault is over now: from here on recovery is counted."""
        self.tell(what)
        self.history.marks["over"] = time.monotonic()


@dataclass(frozen=True)
class Traffic:
    """The load and the probe of a stage."""

    load: Load
    probe: Probe

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For as long as the block runs; calls under way are then finished."""
        stop = asyncio.Event()
        await self.probe.prepare()
        async with asyncio.TaskGroup() as running:
            running.create_task(self.load.run(stop))
            running.create_task(self.probe.run(stop))
            try:
                yield
            finally:
                stop.set()

    async def audit(self) -> int:
        """Ask about everything that is known to have been ended, or to be there.

        Returns:
            How many questions nobody answered.
        """
        return await self.probe.audit(list(self.load.ended), self.load.present)


@asynccontextmanager
async def staged(
    folder: Path,
    setup: Setup,
    *,
    seconds: float,
    calls_per_second: float,
    seed: int,
    tell: Callable[[str], None],
) -> AsyncIterator[tuple[Stage, Traffic]]:
    """Set it up in a folder, and take it down.

    Raises:
        ValkeyError, ReplicaError: something does not start.
    """
    async with AsyncExitStack() as running:
        store = await _store(folder, setup.store, running)
        remembered = REMEMBERED if setup.remembers_little else None
        site = Site(folder, Issuer(), store.lines, remembered)
        site.prepare()
        fleet = await running.enter_async_context(
            replicas(site, REPLICAS, can_step_clock=setup.can_step_clocks)
        )
        history = History()
        traffic = await _traffic(site, fleet, history, running, calls_per_second, seed)
        yield Stage(fleet, history, seconds, tell, store), traffic


async def _store(folder: Path, kind: StoreKind, running: AsyncExitStack) -> Store:
    if kind == "cluster":
        cluster = running.enter_context(valkey.cluster(folder, replicas=1))
        lines = f'mode = "cluster"\nnodes = [{_addresses(cluster.primaries)}]'
        return Store(f"{_REPLICATED}\n{lines}", cluster=cluster)
    if kind == "sentinel":
        group = running.enter_context(valkey.sentinel(folder))
        sentinels = f'sentinels = [{_addresses(group.sentinels)}]\nservice = "{group.service}"'
        return Store(f'{_REPLICATED}\nmode = "sentinel"\n{sentinels}', sentinels=group)
    server = running.enter_context(valkey.single(folder))
    if kind == "single":
        return Store(f'kind = "redis"\nurl = "{server.url}"', server=server)
    proxy = await running.enter_async_context(proxied(server.address))
    return Store(f'kind = "redis"\nurl = "{proxy.url}"', server=server, proxy=proxy)


def _addresses(servers: Iterable[Valkey]) -> str:
    return ", ".join(f'"{HOST}:{server.port}"' for server in servers)


_REPLICATED = 'kind = "redis"\nacknowledge_replicas = 1'


async def _traffic(
    site: Site,
    fleet: tuple[Replica, ...],
    history: History,
    running: AsyncExitStack,
    calls_per_second: float,
    seed: int,
) -> Traffic:
    tls = {caller: site.tls(caller) for caller in ("load", "operator")}
    addresses = [replica.address for replica in fleet]
    *clients, prober = [
        await running.enter_async_context(balanced(number, addresses, tls["load"], history))
        for number in range(CLIENTS + 1)
    ]
    each = [
        await running.enter_async_context(direct(replica.name, replica.address, tls, history))
        for replica in fleet
    ]
    load = Load(clients, site.issuer, history, calls_per_second=calls_per_second, seed=seed)
    return Traffic(load, Probe(prober, each, site.issuer, seed=seed))


def _there(part: PartT | None) -> PartT:
    if part is None:
        raise ValueError("this stage has no such part")
    return part
