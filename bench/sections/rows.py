"""What each row of the decision table costs on the server, beside a raw echo of row 8's bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bench import echo
from bench.calls import STREAM, UNARY
from bench.figures import Sample, Summary
from bench.generator import Outcome, doubts
from bench.mixes import KINDS
from bench.population import Population, fill
from bench.section import Goal, Options, Section
from bench.stage import Side, Stage, alternate, authsvc_stage, echo_stage

SESSIONS = 2_000

ECHO = "raw echo, unary"

CALLS = {"hot": 3_000, "earlier": 1_500, "tokenless": 1_500, "principal": 1_500}
"""Calls in a sample; others have 320. Streams have four times as many of row 8."""

ORDINARY_CALLS = 320

ROWS = tuple(
    kind for kind in KINDS if kind not in ("each", "changing", "seed", "without", "bearer")
)

CLIENTS = 8
"""Client processes, each with a connection: MCP servers, say."""


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "rows"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    async with (
        authsvc_stage(folder, population, processes=CLIENTS) as ours,
        echo_stage(population, ours.clients) as raw,
    ):
        await ours.warm_up()
        sides: dict[str, Side[Outcome]] = {ECHO: lambda: raw.load(echo.UNARY, calls=CALLS["hot"])}
        for kind in ROWS:
            for method in (UNARY, STREAM):
                sides[_name(kind, method)] = _side(ours, kind, method)
        taken = await alternate(options.rounds, sides, options.step)
    samples = {name: [outcome.sample for outcome in outcomes] for name, outcomes in taken.items()}
    return Section(
        title="What a resolve costs, by row, beside a raw echo",
        head=(
            "",
            "CPU µs",
            "CPU, in echos",
            "calls/s",
            "throughput, in echos",
            "client's CPU µs",
            "busiest",
        ),
        rows=[_row(name, outcomes, samples[ECHO]) for name, outcomes in taken.items()],
        notes=(
            (
                f"Closed loop, 64 in flight from {CLIENTS} client processes with a connection "
                "each; tokens of 4 KB. The echo is a generic handler without (de)serialisers on "
                "grpc.aio and uvloop, with row 8's bytes there and back."
            ),
            (
                "The server has a CPU of its own. 'busiest' is the share of a CPU that the busiest "
                "client process took."
            ),
        ),
        samples={name: [asdict(sample) for sample in taken] for name, taken in samples.items()},
        goals=_goals(samples, doubts([*taken[ECHO], *taken[_name("hot", UNARY)]])),
    )


def _side(ours: Stage, kind: str, method: str) -> Side[Outcome]:
    calls = CALLS.get(kind, ORDINARY_CALLS) * (4 if (kind, method) == ("hot", STREAM) else 1)
    return lambda: ours.load(method, mix={kind: 1.0}, calls=calls)


def _name(kind: str, method: str) -> str:
    return f"row {KINDS[kind].row} ({kind}), {'stream' if method == STREAM else 'unary'}"


def _row(name: str, outcomes: Sequence[Outcome], base: Sequence[Sample]) -> list[str]:
    taken = [outcome.sample for outcome in outcomes]
    return [
        name,
        Summary.of(sample.server_micros for sample in taken).show(),
        _cpu_ratio(taken, base).show(2),
        Summary.of(sample.calls_per_second for sample in taken).show(),
        _throughput_ratio(taken, base).show(2),
        Summary.of(sample.client_micros for sample in taken).show(),
        f"{max(outcome.busiest_client for outcome in outcomes):.0%}",
    ]


def _goals(samples: dict[str, list[Sample]], saturated: Sequence[str]) -> list[Goal]:
    """Of costs, and of throughput, whose ratio a saturated client hides."""
    base, unary = samples[ECHO], samples[_name("hot", UNARY)]
    stream = samples[_name("hot", STREAM)]
    return [
        Goal(
            "unary, row 8: throughput, of a raw-bytes echo",
            0.95,
            _throughput_ratio(unary, base),
            at_least=True,
            doubts=saturated,
        ),
        Goal(
            "stream, 64 in flight from 8 clients: CPU a resolve on the server",
            18.0,
            Summary.of(sample.server_micros for sample in stream),
            digits=1,
            unit="µs",
        ),
        Goal(
            "the same: how many times less CPU than unary echo on grpc.aio",
            6.0,
            _cpu_ratio(base, stream),
            at_least=True,
            digits=1,
        ),
        Goal(
            "rejected token on a session (row 7), unary: CPU, in raw echos",
            2.0,
            _cpu_ratio(samples[_name("refused", UNARY)], base),
        ),
        Goal(
            "the same by stream: CPU, in row 8's by stream",
            6.0,
            _cpu_ratio(samples[_name("refused", STREAM)], stream),
        ),
    ]


def _cpu_ratio(taken: Sequence[Sample], base: Sequence[Sample]) -> Summary:
    return Summary.of_ratios(
        [sample.server_micros for sample in taken], [sample.server_micros for sample in base]
    )


def _throughput_ratio(taken: Sequence[Sample], base: Sequence[Sample]) -> Summary:
    return Summary.of_ratios(
        [sample.calls_per_second for sample in taken], [sample.calls_per_second for sample in base]
    )
