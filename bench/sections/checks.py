"""What Envoy's Check costs on the server, beside a unary resolve of the same row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from bench.calls import UNARY
from bench.checks import CHECK
from bench.figures import Sample, Summary
from bench.mixes import KINDS
from bench.population import Population, fill
from bench.section import Goal, Options, Section
from bench.stage import NO_LIMITS, Side, Stage, alternate, authsvc_stage, ext_authz_tables

SESSIONS = 2_000

CALLS = {"hot": 3_000, "earlier": 1_500, "principal": 1_500}
"""Calls in a sample; others have 320."""

ORDINARY_CALLS = 320

ROWS = ("hot", "refresh", "earlier", "principal", "refused")

GOAL = 1.3
"""Of a unary resolve."""


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "checks"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    tables = NO_LIMITS + ext_authz_tables(folder)
    async with authsvc_stage(folder, population, tables=tables) as ours:
        await ours.warm_up()
        await ours.load(CHECK, calls=4 * SESSIONS)
        sides: dict[str, Side[Sample]] = {}
        for kind in ROWS:
            for method in (UNARY, CHECK):
                sides[_name(kind, method)] = partial(_sample, ours, kind, method)
        taken = await alternate(options.rounds, sides, options.step)
    return Section(
        title="What Envoy's Check costs, beside a unary resolve of the same row",
        head=("", "CPU µs", "CPU, in resolves", "calls/s"),
        rows=[
            _row(kind, method, taken[_name(kind, method)], taken[_name(kind, UNARY)])
            for kind in ROWS
            for method in (UNARY, CHECK)
        ],
        notes=(
            (
                "Closed loop, 64 in flight from two client processes; tokens of 4 KB. A Check has "
                "the headers that Envoy sends, raw, and the body of a tool call; its response has "
                "an assertion, signed anew when half of its life is over."
            ),
        ),
        samples={name: [asdict(sample) for sample in samples] for name, samples in taken.items()},
        goals=[
            Goal(
                f"a check, row {KINDS[kind].row} ({kind}): CPU, of a unary resolve",
                GOAL,
                _ratio(taken[_name(kind, CHECK)], taken[_name(kind, UNARY)]),
            )
            for kind in ROWS
        ],
    )


async def _sample(ours: Stage, kind: str, method: str) -> Sample:
    calls = CALLS.get(kind, ORDINARY_CALLS)
    return (await ours.load(method, mix={kind: 1.0}, calls=calls)).sample


def _name(kind: str, method: str) -> str:
    return f"row {KINDS[kind].row} ({kind}), {'check' if method == CHECK else 'resolve'}"


def _row(kind: str, method: str, taken: Sequence[Sample], base: Sequence[Sample]) -> list[str]:
    return [
        _name(kind, method),
        Summary.of(sample.server_micros for sample in taken).show(),
        _ratio(taken, base).show(2),
        Summary.of(sample.calls_per_second for sample in taken).show(),
    ]


def _ratio(taken: Sequence[Sample], base: Sequence[Sample]) -> Summary:
    return Summary.of_ratios(
        [sample.server_micros for sample in taken], [sample.server_micros for sample in base]
    )
