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
from chaos.clients import balanced, direct, sending
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

CACHED = 1_000
"""Sessions and tokens in the caches of replicas whose memory is measured: a full cache does not
grow."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The parts of a run.

    Attributes:
        store: a single server, one behind a proxy, one with a replica and sentinels, or a cluster
            of three primaries with a replica each.
        can_step_clocks: whether the replicas' clocks can be stepped.
        has_small_caches: whether the replicas' caches are small.
        signals_per_second: signals alone end sessions, at this rate; None for all kinds.
    """

    store: StoreKind = "single"
    can_step_clocks: bool = False
    has_small_caches: bool = False
    signals_per_second: float | None = None


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
        history: the calls and their results.
        seconds: how long a fault lasts.
        report: prints progress.
        memory: samples of each replica's memory, if it is measured: (seconds, KB).
        broken: violations that do not show in a call.
    """

    replicas: tuple[Replica, ...]
    history: History
    seconds: float
    report: Callable[[str], None]
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

    async def hold(self) -> None:
        """Wait for the duration of a fault."""
        await asyncio.sleep(self.seconds)

    def fault_ended(self, what: str) -> None:
        """Report the end of the fault. The recovery time begins now."""
        self.report(what)
        self.history.marks["over"] = time.monotonic()


@dataclass(frozen=True)
class Traffic:
    """The load and the probe of a stage."""

    load: Load
    probe: Probe

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Run load and probe during the block. Calls in flight are finished at its end."""
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
        """Resolve every session that was ended, and every one that was not.

        Returns:
            The number of resolves that failed.
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
    """A stage in a folder, taken down at the end of the block.

    Raises:
        ValkeyError, ProgramError: something does not start.
    """
    async with AsyncExitStack() as running:
        store = await _store(folder, setup.store, running)
        cached = CACHED if setup.has_small_caches else None
        site = Site(folder, Issuer(), store.lines, cached)
        site.prepare()
        fleet = await running.enter_async_context(
            replicas(site, REPLICAS, can_step_clock=setup.can_step_clocks)
        )
        history = History()
        traffic = await _traffic(setup, site, fleet, history, running, calls_per_second, seed)
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
    setup: Setup,
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
    urls = {replica.name: replica.signals_url for replica in fleet}
    senders = await running.enter_async_context(sending(urls, history))
    load = Load(clients, site.issuer, history, calls_per_second=calls_per_second, seed=seed)
    probe = Probe(
        *(prober, each, senders, site.issuer, history),
        seed=seed,
        signals_per_second=setup.signals_per_second,
    )
    return Traffic(load, probe)


def _there(part: PartT | None) -> PartT:
    if part is None:
        raise ValueError("this stage has no such part")
    return part
