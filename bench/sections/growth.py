"""What a thousand times as many sessions cost: CPU on the hot path, and memory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict

from bench.calls import STREAM, UNARY
from bench.figures import Summary
from bench.generator import Outcome
from bench.population import Population, fill
from bench.section import Goal, Options, Plot, Section
from bench.stage import Side, Stage, alternate, authsvc_stage

FEW = 1_000
IN_USE = FEW // 2
"""Sessions that are asked about, of however many there are: those of the small store that stand."""

CALLS = {UNARY: 2_000, STREAM: 10_000}
NAMES = {UNARY: "unary", STREAM: "stream"}
GOAL_RATIO = 1.10

CACHED = 100_000
"""Records that authsvc caches: its default."""

ANSWERS = 1_000
"""Answers that it may keep: few, so that records are what grows."""

STEP = 20_000
STEPS = 5
GOAL_BYTES = 2_048
GOAL_MB = 200.0

Taken = dict[tuple[str, int], list[Outcome]]


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "growth"
    folder.mkdir()
    many = Population.of(options.sessions)
    async with AsyncExitStack() as stack:
        stages = {}
        for population in (Population.of(FEW), many):
            options.step(f"storing {population.sessions:,} sessions")
            place = folder / str(population.sessions)
            place.mkdir()
            await fill(place / "sessions.db", population)
            stage = await stack.enter_async_context(authsvc_stage(place, population))
            await stage.warm_up()
            stages[population.sessions] = stage
        sides = {
            (method, sessions): _side(stage, method)
            for method in NAMES
            for sessions, stage in stages.items()
        }
        taken = await alternate(options.rounds, sides, options.step)
    options.step("memory of sessions in use")
    memory = await _memory(options, many)
    each = [
        (memory[step + 1][1] - memory[step][1]) / (memory[step + 1][0] - memory[step][0])
        for step in range(1, CACHED // STEP)
    ]
    return _section(taken, memory, Summary.of(each), options.sessions)


def _side(stage: Stage, method: str) -> Side[Outcome]:
    return lambda: stage.load(method, calls=CALLS[method], spread=IN_USE)


async def _memory(options: Options, population: Population) -> list[tuple[int, int]]:
    """How many sessions have been resolved, and the bytes that are resident, step by step."""
    settings = f"cached_tokens = {ANSWERS}"
    folder = options.folder / "growth" / str(population.sessions)
    measured = []
    async with authsvc_stage(
        folder,
        population,
        settings=settings,
        store=f"cached_sessions = {CACHED}",
        processes=1,
    ) as stage:
        for step in range(STEPS + 1):
            await stage.load(STREAM, calls=STEP, mix={"each": 1.0})
            measured.append(((step + 1) * STEP, stage.server.resident_bytes()))
    return measured


def _section(taken: Taken, memory: list[tuple[int, int]], each: Summary, sessions: int) -> Section:
    # Those of the upper half are resolved; see bench.mixes.
    distinct = sessions // 2
    needed = STEP * (STEPS + 1)
    doubts = [f"the store has {distinct:,} sessions to resolve, not {needed:,}"]
    doubts *= distinct < needed
    rows = []
    for method in NAMES:
        few, many = (
            [outcome.sample.server_micros for outcome in taken[method, number]]
            for number in (FEW, sessions)
        )
        ratio = Summary.of_ratios(many, few)
        rows.append(
            [
                f"row 8, {NAMES[method]}",
                Summary.of(few).show(),
                Summary.of(many).show(),
                ratio.show(2),
            ]
        )
    return Section(
        title=f"From {FEW:,} to {sessions:,} sessions",
        head=("CPU µs", f"{FEW:,} sessions", f"{sessions:,} sessions", "ratio"),
        rows=rows,
        notes=(
            f"{IN_USE:,} sessions are in use in either store, at random.",
            (
                f"Memory: authsvc may keep {CACHED:,} records and {ANSWERS:,} answers; "
                f"{STEP:,} sessions at a time are resolved for the first time. What is resident "
                f"grows by {each.show()} bytes a session up to there, and beyond it by "
                f"{(memory[-1][1] - memory[-2][1]) / STEP:,.0f}: the limit holds."
            ),
        ),
        samples={
            **{
                f"{NAMES[method]}, {number}": [asdict(outcome.sample) for outcome in outcomes]
                for (method, number), outcomes in taken.items()
            },
            "resident_bytes": memory,
        },
        goals=[
            *(
                Goal(
                    f"{FEW:,} to {sessions:,} sessions: CPU on the hot path, {NAMES[method]}",
                    GOAL_RATIO,
                    Summary.of_ratios(
                        [outcome.sample.server_micros for outcome in taken[method, sessions]],
                        [outcome.sample.server_micros for outcome in taken[method, FEW]],
                    ),
                )
                for method in NAMES
            ),
            Goal(
                "memory a cached session", GOAL_BYTES, each, digits=0, unit="bytes", doubts=doubts
            ),
            Goal(
                f"resident with {CACHED:,} cached sessions",
                GOAL_MB,
                Summary.of([dict(memory)[CACHED] / 1e6]),
                digits=0,
                unit="MB",
                doubts=doubts,
            ),
        ],
        plots=[
            Plot(
                f"Memory (at most {CACHED:,} records are kept)",
                "sessions resolved",
                "MB resident",
                {"authsvc": [(number, size / 1e6) for number, size in memory]},
            )
        ],
    )
