"""What a signal costs, and what a flood of forged ones does to everybody else's latency."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import jwt

from bench.figures import Sample, Summary
from bench.generator import LoadError, Outcome, doubts
from bench.population import Population, fill
from bench.processes import ServerProcess, place
from bench.section import Goal, Options, Section
from bench.sections.gate import connected, exchange
from bench.stage import APART, NO_LIMITS, Side, Stage, alternate, authsvc_stage

SESSIONS = 2_000
SIGNALS = 2_000
CONNECTIONS = 8
HOT_RATE = 300.0
FORGED_RATE = 200.0
SECONDS = 2.0
ALONE = "alone"
GOAL = 2.0

RECEIVER = "https://authsvc.example/signals"
_DISABLED = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"

ACCEPTED, REPEATED, FORGED = "revokes a subject", "sent again", "signature is wrong"
KINDS = {ACCEPTED: b"202", REPEATED: b"202", FORGED: b"400"}
"""What is measured, and how it is answered."""

ONE_ADDRESS, MANY_ADDRESSES = "from one address", "from many addresses"
FLOODS = {ONE_ADDRESS: "", MANY_ADDRESSES: "1e6"}
"""By where they come from: the budget of one address, which many addresses have as often."""

_UNLIMITED = 1_000_000


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "signals"
    folder.mkdir()
    population = Population.of_rsa_key(SESSIONS)
    async with AsyncExitStack() as running:
        stages = {}
        for name, limit in FLOODS.items():
            own = folder / name.replace(" ", "-")
            own.mkdir()
            stages[name] = await running.enter_async_context(_stage(own, population, limit))
        stage, receiver = stages[MANY_ADDRESSES]
        costs = await alternate(
            options.rounds,
            {kind: partial(_cost, receiver, population, kind) for kind in KINDS},
            options.step,
        )
        sides: dict[str, Side[Outcome]] = {ALONE: partial(_beside, stage)}
        for name, (ours, endpoint) in stages.items():
            sides[name] = partial(_beside, ours, endpoint, population)
        hot = await alternate(options.rounds, sides, options.step)
    return Section(
        title="Signals, and a flood of forged ones",
        head=("", "CPU µs, or p50 ms", "signals/s, or p99 ms", "failed"),
        rows=[*_costs(costs), *_latencies(hot)],
        notes=(
            (
                "Security event tokens of RS256 over HTTP/1.1, eight connections, each with one in "
                "flight, into SQLite; without limits. CPU of the process."
            ),
            (
                f"Then row 8 at {HOT_RATE:,.0f}/s, unary, in an open loop: alone, and beside "
                f"{FORGED_RATE:,.0f} forged signals a second, whose signature is checked. From one "
                "address nearly all are answered 429 unread."
            ),
        ),
        samples={kind: [asdict(sample) for sample in taken] for kind, taken in costs.items()}
        | {
            f"hot, {name}": [{"p99_micros": it.micros(99), "failed": it.failures} for it in taken]
            for name, taken in hot.items()
        },
        goals=[_goal(name, hot) for name in FLOODS],
    )


@asynccontextmanager
async def _stage(
    folder: Path, population: Population, limit: str
) -> AsyncIterator[tuple[Stage, ServerProcess]]:
    """An authsvc, and the same process as the receiver of signals.

    Args:
        folder: for its files.
        population: whose issuer sends.
        limit: of rejected signals of one address, each second; empty for the default.
    """
    await fill(folder / "sessions.db", population)
    budget = (
        f"rejected_per_second_per_client = {limit}\nrejected_burst_per_client = {limit}"
        if limit
        else ""
    )
    tables = f"""
{NO_LIMITS}
[signals]
listen = "127.0.0.1:0"
requests_per_second = {_UNLIMITED}
requests_burst = {_UNLIMITED}
{budget}
[[signals.streams]]
issuer = {json.dumps(population.issuer)}
audiences = [{json.dumps(RECEIVER)}]
"""
    async with authsvc_stage(folder, population, tables=tables) as stage:
        await stage.warm_up()
        lines = (folder / "authsvc.log").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        (address,) = (
            it["address"] for it in events if str(it["event"]).startswith("receiving signals")
        )
        yield stage, replace(stage.server, address=address)


def _request(text: str) -> bytes:
    head = (
        "POST /signals/events HTTP/1.1\r\nHost: authsvc\r\n"
        f"Content-Type: application/secevent+jwt\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return f"{head}{text}".encode()


def _signals(population: Population, count: int) -> list[str]:
    """New signals, each about another subject who is nobody of the population."""
    key = population.signing_key
    claims = {"iss": population.issuer, "aud": RECEIVER, "iat": int(time.time())}
    return [
        jwt.encode(
            {
                **claims,
                "jti": secrets.token_urlsafe(12),
                "sub_id": {"format": "iss_sub", "iss": population.issuer, "sub": f"signal-{it}"},
                "events": {_DISABLED: {}},
            },
            key,
            population.algorithm,
            {"typ": "secevent+jwt", "kid": population.public_jwk()["kid"]},
        )
        for it in range(count)
    ]


def _forged(population: Population) -> str:
    """One with the signature of another."""
    one, other = _signals(population, 2)
    return f"{one.rpartition('.')[0]}.{other.rpartition('.')[2]}"


async def _cost(receiver: ServerProcess, population: Population, kind: str) -> Sample:
    if kind == FORGED:
        texts = [_forged(population)] * SIGNALS
    elif kind == REPEATED:
        texts = _signals(population, 1) * SIGNALS
    else:
        texts = _signals(population, SIGNALS)
    requests = [_request(text) for text in texts]
    start, cpu_start = time.perf_counter(), receiver.cpu_seconds()
    await _sent(receiver, iter(requests), expected=KINDS[kind])
    cpu_seconds = receiver.cpu_seconds() - cpu_start
    return Sample(SIGNALS, time.perf_counter() - start, cpu_seconds, 0.0)


async def _sent(receiver: ServerProcess, requests: Iterator[bytes], *, expected: bytes) -> None:
    """Send requests, as many at once as there are connections.

    Raises:
        LoadError: one was answered otherwise.
    """

    async def caller() -> None:
        reader, writer = await connected(receiver)
        with closing(writer):
            for request in requests:
                head, _ = await exchange(reader, writer, request)
                if expected not in head.partition("\r\n")[0].encode():
                    raise LoadError(f"a signal was answered {head[:100]!r}")

    async with asyncio.TaskGroup() as callers:
        for _ in range(CONNECTIONS):
            callers.create_task(caller())


async def _beside(
    stage: Stage, receiver: ServerProcess | None = None, population: Population | None = None
) -> Outcome:
    """Row 8, beside a flood where a receiver is given."""
    place(stage.server, APART, stage.clients.pids)
    order = stage.order(rate=HOT_RATE, seconds=SECONDS)
    if receiver is None or population is None:
        (outcome,) = await stage.clients.loads([order], stage.server)
        return outcome
    flood = asyncio.create_task(_flooded(receiver, _request(_forged(population))))
    try:
        (outcome,) = await stage.clients.loads([order], stage.server)
    finally:
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
    return outcome


async def _flooded(receiver: ServerProcess, request: bytes) -> None:
    """Send the same request again and again, until it is cancelled."""
    loop = asyncio.get_running_loop()
    interval = CONNECTIONS / FORGED_RATE

    async def caller(first: float) -> None:
        reader, writer = await connected(receiver)
        due = loop.time() + first
        with closing(writer):
            while True:
                await asyncio.sleep(due - loop.time())
                due = max(due + interval, loop.time())
                await exchange(reader, writer, request)

    async with asyncio.TaskGroup() as callers:
        for number in range(CONNECTIONS):
            callers.create_task(caller(number / FORGED_RATE))


def _costs(costs: Mapping[str, Sequence[Sample]]) -> Iterable[list[str]]:
    for kind, samples in costs.items():
        yield [
            f"a signal: {kind}",
            Summary.of(sample.server_micros for sample in samples).show(),
            Summary.of(sample.calls_per_second for sample in samples).show(),
            "0",
        ]


def _latencies(hot: Mapping[str, Sequence[Outcome]]) -> Iterable[list[str]]:
    for name, outcomes in hot.items():
        beside = name if name == ALONE else f"beside forged signals {name}"
        yield [
            f"row 8: {beside}",
            *(
                Summary.of(outcome.micros(percentile) / 1000 for outcome in outcomes).show(2)
                for percentile in (50, 99)
            ),
            f"{sum(outcome.failures for outcome in outcomes):,}",
        ]


def _goal(name: str, hot: Mapping[str, Sequence[Outcome]]) -> Goal:
    flooded, alone = hot[name], hot[ALONE]
    ratios = Summary.of_ratios([it.micros(99) for it in flooded], [it.micros(99) for it in alone])
    return Goal(
        f"forged signals {name} at {FORGED_RATE:,.0f}/s: hot p99 of its own without them",
        GOAL,
        ratios,
        doubts=list(
            dict.fromkeys(it for pair in zip(flooded, alone, strict=True) for it in doubts(pair))
        ),
    )
