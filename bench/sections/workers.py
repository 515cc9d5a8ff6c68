"""Two workers on two CPUs against one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict

from bench.calls import STREAM, UNARY
from bench.figures import Summary
from bench.generator import Outcome
from bench.population import Population, fill
from bench.section import Goal, Options, Section
from bench.stage import Side, Stage, alternate, authsvc_stage

SESSIONS = 2_000
CALLS = {UNARY: 4_000, STREAM: 16_000}
NAMES = {UNARY: "unary", STREAM: "stream"}

CONNECTIONS = 64
"""The system spreads connections over workers by chance: with many, about evenly."""

IN_FLIGHT = 256
GOAL = 1.7


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "workers"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    async with AsyncExitStack() as stack:
        stages = {
            workers: await stack.enter_async_context(
                authsvc_stage(
                    folder / str(workers),
                    population,
                    settings=f"workers = {workers}",
                    database=folder / "sessions.db",
                )
            )
            for workers in (1, 2)
        }
        sides = {}
        for method in NAMES:
            for workers, stage in stages.items():
                for _ in range(2):  # each worker meets the tokens by itself
                    await _load(stage, workers, method)
                sides[method, workers] = _side(stage, workers, method)
        taken = await alternate(options.rounds, sides, options.step)
    return Section(
        title="Two workers on two CPUs",
        head=("", "calls/s", "CPU µs", "CPUs busy", "clients' CPUs", "calls/s a server's CPU"),
        rows=[
            _row(f"{NAMES[method]}, {workers} worker{'s' * (workers > 1)}", outcomes)
            for (method, workers), outcomes in taken.items()
        ],
        notes=(
            (
                "Row 8, closed loop, 256 in flight over 64 connections. One worker has a CPU of "
                "its own and the clients the other; two workers share both CPUs with the clients."
            ),
            (
                "What the clients take is missing from two workers and not from one. It is "
                "accounted for by what all CPUs would serve if the server had them whole: calls a "
                "second of server's CPU time, times the CPUs. More than two says that a call costs "
                "the one worker, whose threads all share one CPU, more than it costs each of two. "
                "The bare ratio of throughputs follows."
            ),
            *_bare(taken),
        ),
        samples={
            f"{NAMES[method]}, {workers}": [asdict(outcome.sample) for outcome in outcomes]
            for (method, workers), outcomes in taken.items()
        },
        goals=[
            Goal(
                f"two workers on two CPUs against one, {NAMES[method]}",
                GOAL,
                _scale(taken, method),
                at_least=True,
            )
            for method in NAMES
        ],
    )


Taken = dict[tuple[str, int], list[Outcome]]


async def _load(stage: Stage, workers: int, method: str) -> Outcome:
    return await stage.load(
        method,
        placement="apart" if workers == 1 else "free",
        calls=CALLS[method],
        connections=CONNECTIONS,
        in_flight=IN_FLIGHT,
    )


def _side(stage: Stage, workers: int, method: str) -> Side[Outcome]:
    return lambda: _load(stage, workers, method)


def _row(name: str, outcomes: list[Outcome]) -> list[str]:
    samples = [outcome.sample for outcome in outcomes]
    return [
        name,
        Summary.of(sample.calls_per_second for sample in samples).show(),
        Summary.of(sample.server_micros for sample in samples).show(),
        Summary.of(sample.server_load for sample in samples).show(2),
        Summary.of(sample.client_cpu_seconds / sample.seconds for sample in samples).show(2),
        Summary.of(1e6 / sample.server_micros for sample in samples).show(),
    ]


def _scale(taken: Taken, method: str) -> Summary:
    """How much more two workers would serve, had they both CPUs whole."""
    return Summary.of_ratios(
        [2 / outcome.sample.server_micros for outcome in taken[method, 2]],
        [1 / outcome.sample.server_micros for outcome in taken[method, 1]],
    )


def _bare(taken: Taken) -> list[str]:
    return [
        f"Throughput, {NAMES[method]}, the clients' CPU not accounted for: "
        + Summary.of_ratios(
            [outcome.sample.calls_per_second for outcome in taken[method, 2]],
            [outcome.sample.calls_per_second for outcome in taken[method, 1]],
        ).show(2)
        + " times."
        for method in NAMES
    ]
