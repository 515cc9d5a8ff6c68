"""A flood of refused tokens beside the hot path: what it does to everybody else's latency."""

from __future__ import annotations

from bench.calls import STREAM, UNARY
from bench.figures import Summary
from bench.generator import Outcome
from bench.population import Population, fill
from bench.processes import place
from bench.section import Goal, Options, Section
from bench.stage import APART, Side, Stage, alternate, authsvc_stage

SESSIONS = 2_000
HOT_RATE = 1_000.0
REFUSED_RATE = 2_000.0
SECONDS = 2.0
NAMES = {UNARY: "unary", STREAM: "stream"}
GOAL = 2.0


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "refused"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    # Rationed as it is by default: that is a part of the defence.
    async with authsvc_stage(folder, population, tables="", processes=4) as stage:
        await stage.warm_up()
        sides = {
            (method, flooded): _side(stage, method, flooded)
            for method in NAMES
            for flooded in (False, True)
        }
        taken = await alternate(options.rounds, sides, options.step)
    return Section(
        title=f"{REFUSED_RATE:,.0f} refused tokens a second beside the hot path",
        head=("hot path", "p50, ms", "p99, ms", "p99.9, ms", "asked late, ms", "failed"),
        rows=[
            _row(f"{NAMES[method]}, {'beside the flood' if flooded else 'alone'}", outcomes)
            for (method, flooded), outcomes in taken.items()
        ],
        notes=(
            (
                f"Open loop: row 8 at {HOT_RATE:,.0f}/s. The flood is the same caller's, over "
                "other connections; each of its tokens has another invalid signature. [limits] are "
                "the defaults: 500 tokens at once and 100 a second are verified and rejected, the "
                "others are rejected unseen."
            ),
        ),
        samples={
            f"{NAMES[method]}, {'flooded' if flooded else 'alone'}": [
                {
                    "p99_micros": hot.micros(99),
                    "lag_p99_micros": hot.lag_micros,
                    "failed": hot.failures,
                }
                for hot in outcomes
            ]
            for (method, flooded), outcomes in taken.items()
        },
        goals=[
            Goal(
                f"refused tokens at 2,000/s: hot p99, {NAMES[method]}, of its own without them",
                GOAL,
                Summary.of_ratios(
                    [hot.micros(99) for hot in taken[method, True]],
                    [hot.micros(99) for hot in taken[method, False]],
                ),
            )
            for method in NAMES
        ],
    )


def _side(stage: Stage, method: str, flooded: bool) -> Side[Outcome]:
    async def side() -> Outcome:
        place(stage.server, APART, stage.clients.pids)
        orders = [stage.order(method, rate=HOT_RATE, seconds=SECONDS)]
        flood = stage.order(method, mix={"refused": 1.0}, rate=REFUSED_RATE, seconds=SECONDS)
        hot, *_ = await stage.clients.loads([*orders, flood] if flooded else orders, stage.server)
        return hot

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
