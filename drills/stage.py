"""The stage of a drill: an installation that runs, and its load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from authsvc.client.replicas import LOOK_UP_SECONDS
from chaos import valkey
from chaos.valkey import Valkey
from drills.errors import DrillError
from drills.installation import Installation
from drills.load import Load, http_client
from drills.programs import Adapter, Ran, Replica, run_as_written
from drills.prometheus import Prometheus, executable, prometheus
from drills.tally import Call, Tally

ADAPTERS = 2
REPLICAS = 3
SHORT_ADAPTERS = 1
SHORT_REPLICAS = 2
"""In the short form: starting processes is most of its time."""

WAIT_SECONDS = 60.0
"""Within it what a drill waits for has happened, or the drill fails."""

CONNECT_SECONDS = 2.0
"""Within it a client is connected to a replica that it has found."""

_POLL_SECONDS = 0.05

StoreKind = Literal["valkey", "sqlite"]


@dataclass
class Stage:
    """An installation that runs.

    Attributes:
        installation: its files.
        is_short: whether waits are as short as they can be.
        replicas: of authsvc; drills may add some.
        adapters: the MCP servers that the load calls.
        watch: the Prometheus that scrapes all of them; None where there is none.
        are_out: whether the load is kept out of the adapters, as by their ingress.
        load: the MCP clients.
        http: makes requests.
        tally: the calls of the current drill.
        missed: what the current drill did not show, in words.
        notes: what it measured, in words.
        server: the Valkey, if the store is one.
    """

    installation: Installation
    is_short: bool
    replicas: list[Replica]
    adapters: list[Adapter]
    load: Load
    http: httpx2.AsyncClient
    tally: Tally = field(default_factory=Tally)
    missed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    server: Valkey | None = None
    are_out: bool = False
    watch: Prometheus | None = None

    @property
    def folder(self) -> Path:
        """Where files and logs are."""
        return self.installation.folder

    @property
    def valkey(self) -> Valkey:
        """The Valkey.

        Raises:
            DrillError: the store is another.
        """
        if self.server is None:
            raise DrillError("this stage has no Valkey")
        return self.server

    def step(self, text: str, *, is_outage: bool = False, spares: Iterable[str] = ()) -> None:
        """Begin the next step; see ``Step``."""
        self.tally.begin(text, is_outage=is_outage, spares=spares)

    async def hold(self, seconds: float, *, short: float | None = None) -> None:
        """Let the load run.

        Args:
            seconds: how long.
            short: how long in the short form; the same without it.
        """
        await asyncio.sleep(short if self.is_short and short is not None else seconds)

    def check(self, what: str, holds: object) -> None:
        """Miss the drill's bar unless ``holds``."""
        if not holds:
            self.missed.append(f"not so: {what}")

    def note(self, text: str) -> None:
        """Report a measurement."""
        self.notes.append(text)

    async def until(
        self, what: str, holds: Callable[[], Any], *, seconds: float = WAIT_SECONDS
    ) -> float:
        """Wait until something holds; how long that took, in seconds.

        Args:
            what: in words.
            holds: a function, or one that returns an awaitable.
            seconds: at most.

        Raises:
            DrillError: it does not hold in time.
        """
        start = time.monotonic()
        while True:
            result = holds()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return time.monotonic() - start
            if time.monotonic() - start > seconds:
                raise DrillError(f"not so within {seconds:.0f} s: {what}")
            await asyncio.sleep(_POLL_SECONDS)

    async def run(
        self, command: str, *more: str | Path, places: Mapping[str, str | Path] | None = None
    ) -> Ran:
        """Run a command as a page has it, as the operator; see ``run_as_written``."""
        return await run_as_written(
            command, *map(str, more), config=self.installation.admin_config, places=places
        )

    def valkey_cli(self, command: str) -> Any:  # noqa: ANN401 - as redis-py has them
        """Run a command of ``valkey-cli`` as a page has it, as Valkey's operator."""
        with self.valkey.client() as client:
            return client.execute_command(*command.split())

    async def serves(self, replica: Replica) -> bool:
        """Whether a replica reports that it serves, by the command that the runbook has."""
        ran = await self.run(
            "authsvc health 127.0.0.1:50051 --ca-file /run/secrets/ca.crt --name authsvc",
            places={
                "127.0.0.1:50051": replica.address,
                "/run/secrets": self.installation.mounted("operator"),
            },
        )
        return ran.code == 0

    async def start(self, *replicas: Replica) -> None:
        """Start replicas together, and have them found by name once all of them serve."""
        async with asyncio.TaskGroup() as starting:
            for replica in replicas:
                starting.create_task(replica.start())
        self.publish()

    async def stop(self, replica: Replica) -> None:
        """Stop a replica in order: it drains."""
        replica.drain()
        self.publish(without=replica)
        await replica.ended()

    async def roll(self) -> None:
        """Replace the replicas one by one, as a rollout does."""
        for replica in self.replicas:
            await self.stop(replica)
            await self.start(replica)
            await self.settled(replica)

    async def settled(self, replica: Replica) -> None:
        """Wait until a replica is ready, and then until clients have found it.

        That is what ``minReadySeconds`` of a rollout waits for.
        """
        await self.until(f"{replica.name} is ready", partial(self.is_ready, replica))
        await asyncio.sleep(LOOK_UP_SECONDS + CONNECT_SECONDS)

    @property
    def programs(self) -> list[Replica | Adapter]:
        """All that have secrets, the adapters first: who verifies is before who is verified."""
        return [*self.adapters, *self.replicas]

    async def deliver(self, *programs: Replica | Adapter) -> None:
        """Bring the secrets, as they are now, to each program, one after the other."""
        for program in programs or self.programs:
            self.installation.mount(program.name)
            await self.hold(1.0, short=0.6)

    def publish(self, *, without: Replica | None = None) -> None:
        """Have the name of authsvc stand for the replicas that run."""
        running = [it for it in self.replicas if it.is_running and it is not without]
        self.installation.serve_at(replica.host for replica in running)
        if self.watch is not None:
            # What has ended in order is no target any more; what has crashed stays one.
            authsvc = [it.metrics for it in self.replicas if it is not without]
            adapters = [adapter.metrics for adapter in self.adapters]
            self.watch.publish({"authsvc": authsvc, "mcp-adapter": adapters})

    async def is_ready(self, replica: Replica) -> bool:
        """Whether a replica's metrics say so."""
        return await self.metric(replica.metrics, "authsvc_ready") == 1

    async def metric(self, address: str, name: str, /, **labels: str) -> float | None:
        """A sample of ``host:port``: the sum over all labels that are not given; None without."""
        try:
            answer = await self.http.get(f"http://{address}/metrics")
        except httpx2.TransportError:
            return None
        found = [
            sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def logged(self, text: str, *programs: Replica | Adapter) -> int:
        """How many lines of the programs' logs have a text; of all replicas without any."""
        return sum(it.log.read_text("utf-8").count(text) for it in programs or self.replicas)


@asynccontextmanager
async def staged(folder: Path, store: StoreKind, *, is_short: bool) -> AsyncIterator[Stage]:
    """A stage in a folder, taken down at the end of the block.

    Raises:
        ProgramError, ValkeyError: something does not start.
    """
    async with AsyncExitStack() as running:
        installation = Installation(folder)
        await installation.prepare()
        server = _valkey(installation) if store == "valkey" else None
        if server is not None:
            server.start()
            installation.store = (
                f'kind = "redis"\nurl = "redis://authsvc@{valkey.HOST}:{server.port}/0"\n'
                f'password_file = "{installation.secrets}/valkey-password"'
            )
        else:
            installation.store = f'path = "{folder}/authsvc.db"'
        http = await running.enter_async_context(http_client())
        replicas, adapters = _programs(installation, is_single=not server, is_short=is_short)

        def count(call: Call) -> None:
            stage.tally.count(call)

        def urls() -> list[str]:
            running = (it.url for it in stage.adapters if it.is_running)
            return [] if stage.are_out else [*running]

        load = Load(urls, installation.issuer, http, count)
        stage = Stage(installation, is_short, replicas, adapters, load, http, server=server)
        running.push_async_callback(_end, stage)
        installation.serve_at(replica.host for replica in replicas)
        async with asyncio.TaskGroup() as starting:
            for program in (*replicas, *adapters):
                starting.create_task(program.start())
        watcher = None if is_short else executable()
        if watcher is not None:
            stage.watch = await running.enter_async_context(prometheus(watcher, folder, http))
            stage.publish()
        yield stage


def _programs(
    installation: Installation, *, is_single: bool, is_short: bool
) -> tuple[list[Replica], list[Adapter]]:
    replicas = SHORT_REPLICAS if is_short else REPLICAS
    adapters = SHORT_ADAPTERS if is_short or is_single else ADAPTERS
    return (
        [Replica(number, installation) for number in range(1 if is_single else replicas)],
        [
            Adapter(f"adapter-{number}", f"127.0.2.{number + 1}", installation)
            for number in range(adapters)
        ],
    )


def _valkey(installation: Installation) -> Valkey:
    password = (installation.secrets / "valkey-operator-password").read_text("ascii").strip()
    return Valkey(
        installation.folder / "volume",
        *("--aclfile", str(installation.secrets / "users.acl")),
        login={"username": "operator", "password": password},
    )


async def _end(stage: Stage) -> None:
    for program in (*stage.adapters, *stage.replicas):
        await program.end()
    if stage.server is not None:
        stage.server.end()
