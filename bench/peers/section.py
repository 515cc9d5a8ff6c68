"""The comparison: what a tool call costs behind each peer, and what each answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from statistics import quantiles

from bench.figures import MICROS, Summary
from bench.peers.answers import ASKED, answers
from bench.peers.client import Connection, Era, connected
from bench.peers.sides import NAMES, Peers, Side, running
from bench.section import Goal, Options, Section
from bench.serving import SERVED_BY
from bench.stage import Side as Sampled
from bench.stage import alternate

CONNECTIONS = 4
"""Each with a subject, a token and a session of its own."""

CALLS = 500
"""In a sample, over all connections."""

ERAS: Mapping[Era, str] = {"legacy": "2025-11-25", "modern": "2026-07-28"}

TITLE = "Peers: a tool call that tells who asks"


@dataclass(frozen=True, slots=True)
class Taken:
    """A sample of one side.

    Attributes:
        micros: CPU µs a call, by process.
        latencies: ms, the median and the 99th percentile.
    """

    micros: Mapping[str, float]
    latencies: tuple[float, float]

    @property
    def total(self) -> float:
        """CPU µs a call, all processes together."""
        return sum(self.micros.values())


Key = tuple[Era, str]
Samples = Mapping[Key, Sequence[Taken]]


async def run(options: Options) -> Section:
    """Measure all sides in one run, and ask each what it answers.

    Raises:
        bench.processes.ServerError: one did not start.
        ConnectionError: one did not answer as it should.
    """
    async with running(options.folder) as peers:
        options.step("what each answers")
        told = await answers(peers)
        async with _sides(peers) as sides:
            taken = await alternate(options.rounds, sides, options.step)
    return section(taken, told)


@asynccontextmanager
async def _sides(peers: Peers) -> AsyncIterator[dict[Key, Sampled[Taken]]]:
    sides: dict[Key, Sampled[Taken]] = {}
    async with AsyncExitStack() as stack:
        for era in ERAS:
            for name, side in peers.sides.items():
                loads = [
                    await _load(await stack.enter_async_context(connected(side.address)), *whose)
                    for whose in _owners(peers, name, era)
                ]
                sides[era, name] = partial(_sample, side, loads)
        yield sides


def _owners(peers: Peers, name: str, era: Era) -> list[tuple[Era, str, str]]:
    subjects = [f"{name}-{era}-{number}" for number in range(CONNECTIONS)]
    return [(era, subject, peers.idp.token(subject)) for subject in subjects]


@dataclass(frozen=True, slots=True)
class Load:
    """Calls of one client."""

    connection: Connection
    request: bytes
    expected: bytes


async def _load(connection: Connection, era: Era, subject: str, token: str) -> Load:
    """Open a session where the era has them."""
    session = (await connection.initialize(token)).session_id if era == "legacy" else ""
    first = await connection.whoami(token, session, era=era)
    expected = "nobody:" if first.text == "nobody:" else f"{subject}:reader"
    return Load(connection, connection.call(token, session, era=era), expected.encode())


async def _sample(side: Side, loads: Sequence[Load]) -> Taken:
    before = side.cpu_seconds()
    async with asyncio.TaskGroup() as group:
        for load in loads:
            load.connection.seconds.clear()
            calls = CALLS // len(loads)
            group.create_task(load.connection.load(load.request, calls, load.expected))
    after = side.cpu_seconds()
    every = [seconds for load in loads for seconds in load.connection.seconds]
    cuts = quantiles(every, n=100)
    micros = {name: MICROS * (after[name] - before[name]) / len(every) for name in after}
    return Taken(micros, (1_000 * cuts[49], 1_000 * cuts[98]))


def section(taken: Samples, told: Mapping[str, Mapping[str, str]]) -> Section:
    """Tables, goals and notes, from what was measured."""
    return Section(
        TITLE,
        head=("", "revision", "CPU µs a call, all", "of which", "p50 ms", "p99 ms"),
        rows=[_row(era, name, samples) for (era, name), samples in taken.items()],
        notes=NOTES,
        samples={
            "calls": {
                f"{name}, {ERAS[era]}": [asdict(sample) for sample in samples]
                for (era, name), samples in taken.items()
            },
            "answers": told,
        },
        goals=_goals(taken),
    )


def _row(era: Era, name: str, samples: Sequence[Taken]) -> tuple[str, ...]:
    parts = [
        f"{part} {Summary.of(sample.micros[part] for sample in samples).median:,.0f}"
        for part in samples[0].micros
    ]
    return (
        NAMES[name],
        ERAS[era],
        Summary.of(sample.total for sample in samples).show(),
        ", ".join(parts) if len(parts) > 1 else "",
        *(Summary.of(it.latencies[place] for it in samples).show(2) for place in (0, 1)),
    )


def _goals(taken: Samples) -> list[Goal]:
    """Of a whole tool call, against a token checked locally; and of the adapter's process alone."""
    whole = [
        Goal(
            f"a tool call, all processes: the adapter's transport, of PyJWT's ({ERAS[era]})",
            1.0,
            Summary.of_ratios(_totals(taken[era, "adapter"]), _totals(taken[era, "pyjwt"])),
        )
        for era in ERAS
    ]
    app = [it.micros["app"] for it in taken["modern", "adapter"]]
    floor = Goal(
        f"the adapter's process, of the SDK's, no sessions, no authorisation ({ERAS['modern']})",
        1.25,
        Summary.of_ratios(app, _totals(taken["modern", "stateless"])),
    )
    return [*whole, floor]


def _totals(samples: Sequence[Taken]) -> list[float]:
    return [sample.total for sample in samples]


def answers_table(told: Mapping[str, Mapping[str, str]]) -> tuple[list[str], list[list[str]]]:
    """What each answers: head and rows."""
    head = ["", *(NAMES[name] for name in ASKED)]
    return head, [[text, *(by_side[name] for name in ASKED)] for text, by_side in told.items()]


NOTES = (
    SERVED_BY,
    (
        f"{CONNECTIONS} connections in a closed loop, {CALLS} calls a sample, RS256 tokens, and a "
        "subject, token and session for each connection; servers and client share the CPUs. "
        "Latency is a closed loop's: it compares sides, and says nothing of an open load."
    ),
    (
        "Every side runs the same tool. Peers keep sessions in the SDK's process where the "
        "revision has them; ours are in authsvc, on disk, and any replica serves them."
    ),
    (
        "All sides answer in plain JSON, but for the SDK as it comes on 2025-11-25, whose answers "
        "are event streams. It and the adapter can turn to one on 2026-07-28, when a tool reports "
        "progress or is silent for long."
    ),
    "The introspection endpoint is local and keeps its list in memory; a real one is further away.",
    (
        "Behind Envoy the tool takes the claims of a header as they are, with jwt_authn and with "
        "ext_authz: it verifies no signature."
    ),
)
"""How it was measured, and what the figures do not say."""
