"""The stage of a run: a store, three replicas over it, the load and the probe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
from chaos.valkey import HOST, Cluster, Valkey

PartT = TypeVar("PartT")

REPLICAS = 3
CLIENTS = 3

StoreKind = Literal["single", "proxied", "cluster"]

FEW_REMEMBERED = "cached_sessions = 1000"
"""For a run whose memory is watched: a cache that fills up soon grows no more."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run is made of.

    Attributes:
        store: a single server, one behind a proxy, or a cluster of three primaries with a replica
            each.
        can_step_clocks: whether the replicas' clocks can be stepped.
        store_lines: more lines of the replicas' table ``[store]``.
    """

    store: StoreKind = "single"
    can_step_clocks: bool = False
    store_lines: str = ""


@dataclass(frozen=True)
class Stage:
    """Everything a fault can be injected into.

    Attributes:
        replicas: of authsvc.
        history: what is asked and answered.
        seconds: how long a fault lasts.
        tell: prints what happens.
        server: the single server.
        proxy: in front of it.
        cluster: or the cluster.
    """

    replicas: tuple[Replica, ...]
    history: History
    seconds: float
    tell: Callable[[str], None]
    _server: Valkey | None
    _proxy: Proxy | None
    _cluster: Cluster | None

    @property
    def server(self) -> Valkey:
        """The single server."""
        return _there(self._server)

    @property
    def proxy(self) -> Proxy:
        """The proxy in front of the single server."""
        return _there(self._proxy)

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return _there(self._cluster)

    async def lasts(self) -> None:
        """Wait for as long as a fault lasts."""
        await asyncio.sleep(self.seconds)

    def begins(self, what: str) -> None:
        """Note that a fault begins now."""
        self.tell(what)
        self.history.marks.setdefault("begins", time.monotonic())

    def is_over(self, what: str) -> None:
        """Note that it is over now: from here on recovery is counted."""
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

    async def audit(self) -> None:
        """Ask about everything that is known to have been ended, or to be there."""
        await self.probe.audit(list(self.load.ended), self.load.present)


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
        server, proxy, cluster, store = await _store(folder, setup, running)
        site = Site(folder, Issuer(), f"{store}\n{setup.store_lines}")
        site.prepare()
        fleet = await running.enter_async_context(
            replicas(site, REPLICAS, can_step_clock=setup.can_step_clocks)
        )
        history = History()
        traffic = await _traffic(site, fleet, history, running, calls_per_second, seed)
        yield Stage(fleet, history, seconds, tell, server, proxy, cluster), traffic


async def _store(
    folder: Path, setup: Setup, running: AsyncExitStack
) -> tuple[Valkey | None, Proxy | None, Cluster | None, str]:
    if setup.store == "cluster":
        cluster = running.enter_context(valkey.cluster(folder, replicas=1))
        nodes = ", ".join(f'"{HOST}:{node.port}"' for node in cluster.primaries)
        lines = f'mode = "cluster"\nnodes = [{nodes}]\nacknowledge_replicas = 1'
        return None, None, cluster, f'kind = "redis"\n{lines}'
    server = running.enter_context(valkey.single(folder))
    proxy = None
    if setup.store == "proxied":
        proxy = await running.enter_async_context(proxied(server.address))
    url = proxy.url if proxy else server.url
    return server, proxy, None, f'kind = "redis"\nurl = "{url}"'


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
        await running.enter_async_context(balanced(addresses, tls["load"], history))
        for _ in range(CLIENTS + 1)
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
