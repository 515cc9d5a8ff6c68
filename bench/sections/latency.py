"""Latency of the hot path over load, from when requests were due, up to a full server."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median

from bench.calls import STREAM, UNARY
from bench.figures import Summary
from bench.generator import Outcome, doubts
from bench.population import Population, fill
from bench.section import Goal, Options, Plot, Section
from bench.stage import IN_FLIGHT, PROCESSES, Side, Stage, alternate, authsvc_stage

SESSIONS = 2_000

NAMES = {UNARY: "unary", STREAM: "stream"}

SATURATING_CALLS = 6_000

SHARES = (0.25, 0.5, 0.7, 0.9)
"""Of the saturation load."""

SECONDS = 2.0
PERCENTILES = (50, 99, 99.9)

GOALS_MILLIS = {0.5: 3.0, 0.7: 5.0}
"""The most that the p99 may be, by share of the saturation load."""


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "latency"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    async with authsvc_stage(folder, population) as stage:
        await stage.warm_up()
        saturation = {method: await _saturation(stage, method, options) for method in NAMES}
        sides = {
            (method, share): _side(stage, method, share * saturation[method])
            for share in SHARES
            for method in NAMES
        }
        rounds = max(3, options.rounds // 2)
        taken = await alternate(rounds, sides, options.step)
    return Section(
        title="Latency over load",
        head=(
            "",
            "requests/s",
            "p50, ms",
            "p99, ms",
            "p99.9, ms",
            "CPU µs",
            "asked late, ms",
            "failed",
        ),
        rows=[
            _row(f"{NAMES[method]}, {share:.0%}", outcomes)
            for (method, share), outcomes in sorted(taken.items(), key=lambda item: item[0])
        ],
        notes=(
            (
                "Open loop: requests are due at random times (a Poisson process), however slow the "
                "answers are, and each latency counts from the time at which the request was due, "
                "so that nothing is omitted (HDR histograms). 'Asked late' is the generator's own "
                "lag at p99: it is part of the latencies."
            ),
            "Saturation, by a closed loop over 64 connections, one in flight on each, so that a "
            "stream's messages have one resolve each, as in most of the open loop's: "
            + ", ".join(f"{NAMES[method]} {rate:,.0f}/s" for method, rate in saturation.items())
            + ". Row 8, one server process with a CPU of its own.",
            *_doubts(taken),
        ),
        samples={
            "saturation": {NAMES[method]: rate for method, rate in saturation.items()},
            "loads": [
                {"method": NAMES[method], "share": share, **_figures(outcome)}
                for (method, share), outcomes in taken.items()
                for outcome in outcomes
            ],
        },
        goals=[
            Goal(
                f"p99 at {share:.0%} of the saturation load, {NAMES[method]}",
                limit,
                Summary.of(outcome.micros(99) / 1000 for outcome in taken[method, share]),
                unit="ms",
                doubts=doubts(taken[method, share]),
            )
            for share, limit in GOALS_MILLIS.items()
            for method in NAMES
        ],
        plots=[_plot(method, taken) for method in NAMES],
    )


Taken = dict[tuple[str, float], list[Outcome]]


async def _saturation(stage: Stage, method: str, options: Options) -> float:
    options.step(f"saturating, {NAMES[method]}")
    outcomes = [
        await stage.load(method, calls=SATURATING_CALLS, connections=IN_FLIGHT) for _ in range(3)
    ]
    return median(outcome.sample.calls_per_second for outcome in outcomes)


def _side(stage: Stage, method: str, rate: float) -> Side[Outcome]:
    return lambda: stage.load(method, rate=rate, seconds=SECONDS, may_fail=True)


def _figures(outcome: Outcome) -> dict[str, object]:
    return {
        **asdict(outcome.sample),
        **{f"p{percentile}_micros": outcome.micros(percentile) for percentile in PERCENTILES},
        "failed": outcome.failures,
        "lag_p99_micros": outcome.lag_micros,
        "busiest_client": outcome.busiest_client,
    }


def _row(name: str, outcomes: list[Outcome]) -> list[str]:
    return [
        name,
        Summary.of(outcome.sample.calls / SECONDS for outcome in outcomes).show(),
        *(
            Summary.of(outcome.micros(percentile) / 1000 for outcome in outcomes).show(2)
            for percentile in PERCENTILES
        ),
        Summary.of(outcome.sample.server_micros for outcome in outcomes).show(),
        Summary.of(outcome.lag_micros / 1000 for outcome in outcomes).show(2),
        f"{sum(outcome.failures for outcome in outcomes):,}",
    ]


def _doubts(taken: Taken) -> list[str]:
    """What the generator itself may have added."""
    return [
        f"Lagged, {NAMES[method]} at {share:.0%}: {'; '.join(found)}."
        for (method, share), outcomes in taken.items()
        if (found := {doubt for outcome in outcomes for doubt in outcome.doubts})
    ]


def _plot(method: str, taken: Taken) -> Plot:
    return Plot(
        f"Latency over load, {NAMES[method]} ({PROCESSES} client processes)",
        "requests/s",
        "ms from when the request was due",
        {
            f"p{percentile}": [
                (
                    median(outcome.sample.calls / SECONDS for outcome in taken[method, share]),
                    median(outcome.micros(percentile) / 1000 for outcome in taken[method, share]),
                )
                for share in SHARES
            ]
            for percentile in PERCENTILES
        },
        log_y=True,
    )
