"""The load generator: client processes that begin together, and what came of it in all."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped] # it has no stubs

from bench.client import DRAIN_SECONDS, Order, histogram
from bench.figures import Sample
from bench.processes import ServerProcess, ended

HEAD_START_SECONDS = 0.05
"""From the last client's being ready to the beginning."""

PREPARE_SECONDS = 120.0
LINE_BYTES = 1 << 24

LAG_LIMIT_MICROS = 1_000
"""A generator that asks later than this at its p99 measures itself."""

CPU_LIMIT = 0.9
"""So much of a CPU, and a client process is as good as saturated."""


class LoadError(Exception):
    """A client process failed; its own words are on standard error."""


class WrongAnswerError(Exception):
    """A server was fast, and wrong: its figures count for nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load, over all client processes.

    Attributes:
        latencies: µs by kind, as HDR histograms; of an open loop from when requests were due.
        lags: µs by which requests were asked later than they were due.
        failed: requests by kind that were refused and should not have been, or were not answered.
        sample: calls, and the CPU time they took.
        busiest_client: how much of a CPU the busiest client process took.
    """

    latencies: Mapping[str, HdrHistogram]
    lags: HdrHistogram
    failed: Mapping[str, int]
    sample: Sample
    busiest_client: float

    @property
    def failures(self) -> int:
        """Requests that were refused and should not have been, or were not answered."""
        return sum(self.failed.values())

    def micros(self, percentile: float, kind: str = "") -> float:
        """Latency in µs; of all kinds together unless one is named."""
        if kind:
            return float(self.latencies[kind].get_value_at_percentile(percentile))
        together = histogram()
        for times in self.latencies.values():
            together.add(times)
        return float(together.get_value_at_percentile(percentile))

    @property
    def lag_micros(self) -> float:
        """How late requests were asked, at the 99th percentile."""
        return float(self.lags.get_value_at_percentile(99))

    @property
    def doubts(self) -> list[str]:
        """Why the generator rather than the server may be what was measured; empty for none."""
        return _doubts(self.lag_micros, self.busiest_client)


def doubts(outcomes: Sequence[Outcome]) -> list[str]:
    """The same of several rounds, by their medians, as what is judged is a median, too."""
    return _doubts(
        median(outcome.lag_micros for outcome in outcomes),
        median(outcome.busiest_client for outcome in outcomes),
    )


def _doubts(lag_micros: float, busiest_client: float) -> list[str]:
    found = []
    if lag_micros > LAG_LIMIT_MICROS:
        found.append(f"requests were asked {lag_micros / 1000:.1f} ms late (p99)")
    if busiest_client > CPU_LIMIT:
        found.append(f"a client process took {busiest_client:.0%} of a CPU")
    return found


class Clients:
    """Client processes, ready for orders.

    Args:
        processes: each runs ``bench.client``.
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._processes]

    async def load(self, order: Order, server: ServerProcess | None = None) -> Outcome:
        """Share out an order: its rate, calls, connections and what is in flight.

        Args:
            order: for all processes together; each has one connection at least.
            server: whose CPU time counts, where it is one of ours.

        Raises:
            LoadError: a client failed.
            WrongAnswerError: an answer was not what its row of the decision table says.
        """
        return (await self.loads([order], server))[0]

    async def loads(
        self, orders: Sequence[Order], server: ServerProcess | None = None
    ) -> list[Outcome]:
        """Put several loads on at once, each by its own share of the processes.

        Args:
            orders: of each load; as many processes as there are go to them in turn.
            server: see ``load``.

        Raises:
            LoadError: a client failed.
            WrongAnswerError: see ``load``.
        """
        groups = [self._processes[place :: len(orders)] for place in range(len(orders))]
        shares = [
            (process, share)
            for order, group in zip(orders, groups, strict=True)
            for process, share in zip(group, _shared_out(order, len(group)), strict=True)
        ]
        await asyncio.gather(*(_prepare(process, share) for process, share in shares))
        start = time.monotonic() + HEAD_START_SECONDS
        cpu_start = server.cpu_seconds() if server else 0.0
        results = await asyncio.gather(*(_run(process, share, start) for process, share in shares))
        cpu_seconds = server.cpu_seconds() - cpu_start if server else 0.0
        outcomes, taken = [], 0
        for group in groups:
            outcomes.append(_merged(results[taken : taken + len(group)], cpu_seconds))
            taken += len(group)
        return outcomes


@asynccontextmanager
async def clients(number: int) -> AsyncIterator[Clients]:
    """So many client processes, ended on the way out."""
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_client()) for _ in range(number)]
        yield Clients(processes)


@asynccontextmanager
async def _client() -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.client",
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
        limit=LINE_BYTES,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process)


def _shared_out(order: Order, processes: int) -> list[Order]:
    """A share of the order for each process."""
    return [
        replace(
            order,
            index=index,
            of=processes,
            connections=max(1, order.connections // processes),
            rate=order.rate / processes,
            calls=order.calls // processes,
            in_flight=max(1, order.in_flight // processes),
            spread=max(1, order.spread // processes),
        )
        for index in range(processes)
    ]


async def _prepare(process: Process, order: Order) -> None:
    if await _told(process, order.to_json(), PREPARE_SECONDS) != "ready":
        raise LoadError("a client could not prepare the load")


async def _run(process: Process, order: Order, start: float) -> dict[str, Any]:
    line = await _told(process, repr(start), order.seconds + PREPARE_SECONDS + 2 * DRAIN_SECONDS)
    if not line:
        raise LoadError("a client failed under way")
    result: dict[str, Any] = json.loads(line)
    if result["wrong"]:
        raise WrongAnswerError(f"{result['wrong']} answers were not what their row says")
    return result


async def _told(process: Process, line: str, seconds: float) -> str:
    """Tell a client something; what it says to that, empty if it has ended."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    try:
        process.stdin.write(line.encode() + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(seconds):
            return (await process.stdout.readline()).decode().strip()
    except ConnectionError:
        return ""


def _merged(results: Sequence[Mapping[str, Any]], server_cpu_seconds: float) -> Outcome:
    latencies: dict[str, HdrHistogram] = {}
    failed: dict[str, int] = {}
    lags = histogram()
    for result in results:
        lags.decode_and_add(result["lags"])
        for kind, times in result["latencies"].items():
            latencies.setdefault(kind, histogram()).decode_and_add(times)
        for kind, number in result["failed"].items():
            failed[kind] = failed.get(kind, 0) + number
    seconds = max(result["seconds"] for result in results)
    cpu = [result["cpu_seconds"] for result in results]
    calls = sum(times.get_total_count() for times in latencies.values())
    sample = Sample(calls, seconds, server_cpu_seconds, sum(cpu))
    return Outcome(latencies, lags, failed, sample, max(cpu) / seconds)
