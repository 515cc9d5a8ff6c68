"""Clients without a token that send all they can: what it does to the latency of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench.apps import PATHS
from bench.figures import Summary
from bench.generator import LoadError
from bench.population import Population, fill
from bench.processes import ServerProcess, module_server
from bench.section import Goal, Options, Section
from bench.sections.gate import connected, exchange, tool_call
from bench.stage import Side, alternate, authsvc_stage

PATH = PATHS["gate"]
CLIENTS = 40
CALLS = 300
SECONDS = 120.0
GOAL = 3.0

ALONE = "alone"

FLOODS = {
    "beside lists in 60 KB": ("lists", 60_000),
    "beside lists in 4 MiB": ("lists", 4 * 1024 * 1024),
    "beside a string of 60 KB": ("string", 60_000),
    "beside long integers in 60 KB": ("integers", 60_000),
    "beside many members in 60 KB": ("members", 60_000),
}
"""What the others' bodies are made of, and their bytes."""


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "anonymous"
    folder.mkdir()
    population = Population.of(100)
    await fill(folder / "sessions.db", population)
    async with (
        authsvc_stage(folder, population, processes=1) as stage,
        module_server("bench.apps", stage.server.address, population.resource) as adapter,
    ):
        request = tool_call(
            PATH, "2025-11-25", population.first_token(0), population.session_id(0), 1
        )
        sides = {ALONE: _side(adapter, request)}
        sides |= {name: _side(adapter, request, flood) for name, flood in FLOODS.items()}
        taken = await alternate(options.rounds, sides, options.step)
    return Section(
        title=f"{CLIENTS} clients without a token beside one with a token",
        head=("tools/call of a trivial tool", "p50, ms", "p99, ms", "slowest, ms"),
        rows=[_row(name, rounds) for name, rounds in taken.items()],
        notes=(
            (
                "One client with a token, one call in flight, behind the gate under uvicorn. The "
                f"{CLIENTS} others send such bodies without a token, the next as soon as the last "
                "is answered, from a process of their own: no rate bounds them."
            ),
        ),
        samples={
            name: [{"p50_ms": _at(calls, 0.5), "p99_ms": _at(calls, 0.99)} for calls in rounds]
            for name, rounds in taken.items()
        },
        goals=[
            Goal(
                f"{CLIENTS} anonymous clients, {name}: a good client's p99, of its own alone",
                GOAL,
                Summary.of_ratios(
                    [_at(calls, 0.99) for calls in taken[name]],
                    [_at(calls, 0.99) for calls in taken[ALONE]],
                ),
            )
            for name in FLOODS
        ],
    )


def _side(
    adapter: ServerProcess, request: bytes, flood: tuple[str, int] | None = None
) -> Side[list[float]]:
    async def side() -> list[float]:
        async with AsyncExitStack() as others, asyncio.timeout(SECONDS):
            if flood is not None:
                arguments = (adapter.address, PATH, str(CLIENTS), *map(str, flood))
                await others.enter_async_context(
                    module_server("bench.anonymous_clients", *arguments)
                )
            return await _calls(adapter, request)

    return side


async def _calls(adapter: ServerProcess, request: bytes) -> list[float]:
    """Milliseconds of each call, in order of size.

    Raises:
        LoadError: the tool did not answer.
    """
    reader, writer = await connected(adapter)
    taken = []
    try:
        for _ in range(CALLS):
            start = time.perf_counter()
            _, body = await exchange(reader, writer, request)
            taken.append(1e3 * (time.perf_counter() - start))
            if b'"hello"' not in body:
                raise LoadError(f"a tool call was answered {body[:300]!r}")
    finally:
        writer.close()
    return sorted(taken)


def _at(calls: Sequence[float], share: float) -> float:
    return calls[min(len(calls) - 1, int(share * len(calls)))]


def _row(name: str, rounds: Sequence[Sequence[float]]) -> list[str]:
    return [
        name,
        *(Summary.of(_at(calls, share) for calls in rounds).show(2) for share in (0.5, 0.99, 1.0)),
    ]
