"""Three real replicas under a known load, beside what the simulation says of the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import uvloop
from grpc import aio

from authsvc.net.channels import open_channel
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1.auth_pb2_grpc import AuthServiceStub
from bench.calls import STREAM
from bench.client import Order
from bench.figures import table
from bench.fleet import Counters, Fleet, fleet
from bench.generator import Clients, clients
from bench.population import Population
from bench.simulate import Outcome, Scenario, Simulation
from bench.sizing.inputs import MEASURED, Inputs

if TYPE_CHECKING:
    from authsvc.v1.auth_pb2_grpc import AuthServiceAsyncStub

REPLICAS = 3
SESSIONS = 1_002
"""A multiple of the client processes."""

WRITES = 60.0
"""New tokens a second, at the first replica."""

REQUESTS = 120.0
"""A second at each of the others, about the sessions that get new tokens."""

SECONDS = 10.0
PROBES = 40
WARM_UP_CALLS = 5 * SESSIONS
"""At each replica, so that it has cached the sessions, as the simulation begins."""

BOUND = 0.25
"""A count may differ by so much. Lookups are a few hundred random events."""

VISIBLE_BOUND_MS = 10.0
"""And the time until a write is visible, by so much: what was measured has a poll in it, and all
processes share this machine's CPUs."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure as predicted and as measured.

    Attributes:
        name: what it is.
        predicted: by the simulation.
        measured: on real replicas.
        bound: how much they may differ; of what was measured unless ``absolute``.
        absolute: whether the bound is in the figure's own unit.
    """

    name: str
    predicted: float
    measured: float
    bound: float = BOUND
    absolute: bool = False

    @property
    def error(self) -> float:
        """By how much the prediction is off."""
        off = self.predicted - self.measured
        return off if self.absolute else off / self.measured if self.measured else float("inf")

    @property
    def holds(self) -> bool:
        """Whether that is within the bound."""
        return abs(self.error) <= self.bound

    def row(self) -> list[str]:
        """For the table."""
        form = "{:+.1f}" if self.absolute else "{:+.0%}"
        return [
            self.name,
            f"{self.predicted:,.1f}",
            f"{self.measured:,.1f}",
            form.format(self.error),
            "±" + form.format(self.bound).lstrip("+"),
            "yes" if self.holds else "NO",
        ]


def run_check(seed: int, step: Step) -> None:
    """Run both, and print them side by side.

    Raises:
        click.ClickException: a prediction is off by more than its bound.
    """
    with TemporaryDirectory(prefix="check-") as folder:
        counters, visible = uvloop.run(_real(Path(folder), step))
    scenario = Scenario(
        [WRITES, *[0.0] * (REPLICAS - 1)],
        [0.0, *[REQUESTS] * (REPLICAS - 1)],
        SESSIONS // 2,
        SECONDS,
        seed,
        in_turn=True,
    )
    outcome = Simulation(Inputs.load(MEASURED), scenario).run(step)
    rows = compared(outcome, counters, visible, Inputs.load(MEASURED))
    head = ["", "predicted", "measured", "error", "bound", "holds"]
    click.echo(table(head, [it.row() for it in rows]))
    if failed := [it.name for it in rows if not it.holds]:
        raise click.ClickException(f"the simulation is off: {', '.join(failed)}")


def compared(
    outcome: Outcome, counters: Counters, visible_ms: float, inputs: Inputs
) -> list[Compared]:
    """Rates a second, and the time until a write is visible."""
    each = REPLICAS * SECONDS
    return [
        Compared("writes/s", outcome.writes, counters.scripts / SECONDS),
        Compared("reads of the feed/s and replica", outcome.reads, counters.reads / each),
        Compared(
            "feed, KB/s and replica",
            outcome.events * inputs.feed_event_bytes / 1e3,
            counters.feed_bytes / each / 1e3,
        ),
        Compared("records read from Valkey/s", *_lookups(outcome, counters)),
        Compared(
            "visible elsewhere, ms, median",
            outcome.visible_ms[0],
            visible_ms,
            VISIBLE_BOUND_MS,
            absolute=True,
        ),
    ]


def _lookups(outcome: Outcome, counters: Counters) -> tuple[float, float]:
    return outcome.round_trips - outcome.writes, counters.lookups / SECONDS


async def _real(folder: Path, step: Step) -> tuple[Counters, float]:
    """What the load took, and how long writes took to be visible at another replica, in ms."""
    population = Population.of(SESSIONS)
    step(f"{REPLICAS} replicas over one Valkey")
    async with fleet(folder, population, REPLICAS) as running, clients(REPLICAS) as asking:
        seeds = _order(running, 0, {"seed": 1.0}, calls=SESSIONS, in_flight=64)
        await asking.load(seeds)
        warm_ups = [
            _order(running, number, {"changing": 1.0}, calls=WARM_UP_CALLS)
            for number in range(REPLICAS)
        ]
        await asking.loads(warm_ups)
        step(f"a load of {SECONDS:.0f} s")
        orders = [_order(running, 0, {"refresh": 1.0}, rate=WRITES, seconds=SECONDS)] + [
            _order(running, number, {"changing": 1.0}, rate=REQUESTS, seconds=SECONDS)
            for number in range(1, REPLICAS)
        ]
        counters = await _loaded(running, asking, orders)
        step("how long a revocation takes to be visible")
        visible = await _visible(running)
    return counters, visible


def _order(running: Fleet, replica: int, mix: dict[str, float], **others: object) -> Order:
    target, population = running.replicas[replica].address, running.population.to_json()
    return Order(target, STREAM, population, mix, **others)  # type: ignore[arg-type] # fields of Order


async def _loaded(running: Fleet, asking: Clients, orders: list[Order]) -> Counters:
    before = Counters.of(running)
    outcomes = await asking.loads(orders)
    taken = Counters.of(running).since(before)
    if failed := sum(outcome.failures for outcome in outcomes):
        raise click.ClickException(f"{failed} requests failed")
    return taken


async def _visible(running: Fleet) -> float:
    """Median ms from the acknowledgement of a revocation until another replica rejects."""
    population, delays = running.population, []
    addresses = [replica.address for replica in running.replicas[:2]]
    async with open_channel(addresses[0]) as one, open_channel(addresses[1]) as two:
        writer: AuthServiceAsyncStub = AuthServiceStub(one)
        reader: AuthServiceAsyncStub = AuthServiceStub(two)
        for session in range(SESSIONS - PROBES, SESSIONS):
            request = pb.ResolveSessionRequest(
                session_id=population.session_id(session),
                token=population.first_token(session),
                resource=population.resource,
            )
            await reader.ResolveSession(request)
            await writer.RevokeSession(pb.RevokeSessionRequest(session_id=request.session_id))
            acknowledged = time.monotonic()
            async with asyncio.timeout(SECONDS):
                delays.append(1e3 * (await _rejected(reader, request) - acknowledged))
    return median(delays)


async def _rejected(reader: AuthServiceAsyncStub, request: pb.ResolveSessionRequest) -> float:
    """When the first request that is rejected was sent."""
    while True:
        sent = time.monotonic()
        try:
            await reader.ResolveSession(request)
        except aio.AioRpcError:
            return sent
