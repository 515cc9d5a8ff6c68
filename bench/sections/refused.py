"""A flood of refused tokens beside the hot path: what it does to everybody else's latency."""

from __future__ import annotations

from collections.abc import Mapping

from bench import echo
from bench.calls import STREAM, UNARY
from bench.figures import Summary
from bench.generator import Outcome, doubts
from bench.population import Population, fill
from bench.processes import place
from bench.section import Goal, Options, Section
from bench.stage import APART, Side, Stage, alternate, authsvc_stage, echo_stage

SESSIONS = 2_000
HOT_RATE = 1_000.0
REFUSED_RATE = 2_000.0
SECONDS = 2.0
ECHO = "echo, unary"
GOAL = 2.0

Taken = Mapping[tuple[str, bool], list[list[Outcome]]]
"""What was measured, by side, alone and beside the flood: the hot path's outcome, and the flood's.
"""


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "refused"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    # Rationed as it is by default: that is a part of the defence.
    async with (
        authsvc_stage(folder, population, tables="", processes=4) as stage,
        echo_stage(population, stage.clients) as floor,
    ):
        await stage.warm_up()
        await floor.load(echo.UNARY, calls=SESSIONS)
        sides = {
            (name, flooded): _side(on, method, flooded, mix)
            for name, (on, method, mix) in {
                ECHO: (floor, echo.UNARY, "hot"),
                "unary": (stage, UNARY, "refused"),
                "stream": (stage, STREAM, "refused"),
            }.items()
            for flooded in (False, True)
        }
        taken = await alternate(options.rounds, sides, options.step)
    return Section(
        title=f"{REFUSED_RATE:,.0f} refused tokens a second beside the hot path",
        head=("hot path", "p50, ms", "p99, ms", "p99.9, ms", "asked late, ms", "failed"),
        rows=[
            _row(f"{name}, {'beside the flood' if flooded else 'alone'}", _hot(outcomes))
            for (name, flooded), outcomes in taken.items()
        ],
        notes=(
            (
                f"Open loop: row 8 at {HOT_RATE:,.0f}/s. The flood is the same caller's, over "
                "other connections; each of its tokens has another invalid signature. [limits] are "
                "the defaults: 200 tokens at once and 100 a second are verified and rejected, the "
                "others are rejected unseen."
            ),
            (
                "The echo answers as many calls, of the same sizes, without any work: where it "
                "slows down, too, that is what so many calls cost in gRPC on this machine."
            ),
        ),
        samples={
            f"{name}, {'flooded' if flooded else 'alone'}": [
                {
                    "p99_micros": hot.micros(99),
                    "lag_p99_micros": hot.lag_micros,
                    "failed": hot.failures,
                }
                for hot in _hot(outcomes)
            ]
            for (name, flooded), outcomes in taken.items()
        },
        goals=[*_goals(taken, "unary"), *_goals(taken, "stream"), _of_echo(taken)],
    )


def _goals(taken: Taken, name: str) -> list[Goal]:
    alone, flooded = taken[name, False], taken[name, True]
    return [
        Goal(
            f"refused tokens at 2,000/s: hot p99, {name}, of its own without them",
            GOAL,
            _ratios(flooded, alone),
            doubts=_late(alone, flooded),
        ),
        Goal(
            f"refused tokens at 2,000/s: valid calls that fail, {name}",
            0,
            Summary.of(hot.failures for hot in _hot(flooded)),
            digits=0,
            doubts=_late(flooded),
        ),
    ]


def _of_echo(taken: Taken) -> Goal:
    flooded, echoed = taken["unary", True], taken[ECHO, True]
    return Goal(
        "refused tokens at 2,000/s: hot p99, unary, of an echo's beside as many calls",
        GOAL,
        _ratios(flooded, echoed),
        doubts=_late(flooded, echoed),
    )


def _ratios(ones: list[list[Outcome]], others: list[list[Outcome]]) -> Summary:
    return Summary.of_ratios(
        [hot.micros(99) for hot in _hot(ones)], [hot.micros(99) for hot in _hot(others)]
    )


def _hot(rounds: list[list[Outcome]]) -> list[Outcome]:
    return [hot for hot, *_ in rounds]


def _late(*sides: list[list[Outcome]]) -> list[str]:
    """Which load was not put on as planned. A flood that comes late is a smaller one."""
    loads = [load for side in sides for load in zip(*side, strict=True)]
    return list(dict.fromkeys(doubt for load in loads for doubt in doubts(load)))


def _side(stage: Stage, method: str, flooded: bool, mix: str) -> Side[list[Outcome]]:
    async def side() -> list[Outcome]:
        place(stage.server, APART, stage.clients.pids)
        orders = [stage.order(method, rate=HOT_RATE, seconds=SECONDS)]
        flood = stage.order(method, mix={mix: 1.0}, rate=REFUSED_RATE, seconds=SECONDS)
        return await stage.clients.loads([*orders, flood] if flooded else orders, stage.server)

    return side


def _row(name: str, outcomes: list[Outcome]) -> list[str]:
    return [
        name,
        *(
            Summary.of(outcome.micros(percentile) / 1000 for outcome in outcomes).show(2)
            for percentile in (50, 99, 99.9)
        ),
        Summary.of(outcome.lag_micros / 1000 for outcome in outcomes).show(2),
        f"{sum(outcome.failures for outcome in outcomes):,}",
    ]
