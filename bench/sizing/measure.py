"""Measures what sizes are derived from: real replicas over a real Valkey."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.calls import STREAM
from bench.client import Order
from bench.figures import MICROS, Summary
from bench.fleet import Counters, Fleet, fleet
from bench.generator import Clients, WrongAnswerError, clients
from bench.population import Population
from bench.sizing.inputs import Inputs

SESSIONS = 2_000
REPLICAS = 3
REFRESHES = {1: 500, 64: 1_500}
"""New tokens by how many are in flight: events of the feed come alone, or several to a read."""

MEMORY_SESSIONS = {True: 16_000, False: 8_000}
"""With few tokens, and with a token each."""

FEW_TOKENS = 64

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Writes:
    """What each new token took: of Valkey, and CPU µs of Valkey, the writer and a reader."""

    round_trips: float
    operations: float
    reads: float
    feed_bytes: float
    valkey: float
    writer: float
    reader: float


async def measured(folder: Path, peers: dict[str, object], step: Step) -> Inputs:
    """Measure everything, but for a tool call's CPU, which ``bench.peers`` has measured.

    Args:
        folder: an empty one.
        peers: what ``python -m bench.peers`` wrote.
        step: told what comes next.

    Raises:
        ValueError: that is something else.
        bench.processes.ServerError: a replica did not start.
        WrongAnswerError: an answer was wrong.
    """
    adapter, authsvc = tool_call(peers)
    step("one replica")
    alone, _ = await _replicas(folder / "one", 1)
    step(f"{REPLICAS} replicas")
    among, others = await _replicas(folder / "several", REPLICAS)
    read, event = _reader(among[1], among[64])
    further = among[1].reads - alone[1].reads
    valkey_read = max(0.0, (among[1].valkey - alone[1].valkey) / further)
    step("memory of cached records")
    base, session, valkey_session, valkey_event = await _memory(folder / "few", few_tokens=True)
    step("memory of tokens and responses")
    _, busy, _, _ = await _memory(folder / "many", few_tokens=False)
    return Inputs(
        adapter_micros=adapter,
        authsvc_micros=authsvc,
        # A writer reads its own events as well, which formulas add for all.
        reauthentication_micros=among[64].writer - among[64].reader,
        lookup_micros=others["lookup_micros"],
        reauthentication_round_trips=among[64].round_trips,
        reauthentication_operations=among[64].operations,
        creation_round_trips=others["creation_round_trips"],
        creation_operations=others["creation_operations"],
        lookup_operations=others["lookup_operations"],
        feed_read_micros=read,
        feed_event_micros=event,
        feed_event_bytes=among[64].feed_bytes / REPLICAS,
        valkey_write_micros=alone[64].valkey - alone[64].reads * valkey_read,
        valkey_read_micros=valkey_read,
        valkey_lookup_micros=others["valkey_lookup_micros"],
        valkey_session_bytes=valkey_session,
        valkey_event_bytes=valkey_event,
        base_bytes=base,
        session_bytes=session,
        busy_session_bytes=busy,
    )


def tool_call(peers: dict[str, object]) -> tuple[float, float]:
    """CPU µs of a tool call in the adapter and in authsvc: of the revision that costs more.

    Raises:
        ValueError: the file has no such samples.
    """
    calls = peers.get("calls")
    if not isinstance(calls, dict):
        raise ValueError("not a file of bench.peers")
    found = [
        tuple(
            Summary.of(it["micros"][part] for it in samples).median for part in ("app", "authsvc")
        )
        for name, samples in calls.items()
        if name.startswith("adapter,")
    ]
    if not found:
        raise ValueError("not a file of bench.peers")
    adapter, authsvc = max(found)
    return adapter, authsvc


async def _replicas(folder: Path, number: int) -> tuple[dict[int, _Writes], dict[str, float]]:
    population = Population.of_rsa_key(SESSIONS)
    async with fleet(folder, population, number) as running, clients(1) as asking:
        created = await _counted(running, asking, "seed", SESSIONS, in_flight=64)
        writes = {}
        for in_flight, calls in REFRESHES.items():
            taken = await _counted(running, asking, "refresh", calls, in_flight=in_flight)
            writes[in_flight] = _of_writes(taken, calls)
        # The last replica has no record yet.
        calls = SESSIONS // 2
        looked = await _counted(running, asking, "each", calls, in_flight=64, at=-1)
        others = {
            "creation_round_trips": (created.scripts + created.lookups) / SESSIONS,
            "creation_operations": created.operations / SESSIONS,
            "lookup_operations": looked.operations / calls,
            "lookup_micros": MICROS * looked.cpu_seconds[-1] / calls,
            "valkey_lookup_micros": MICROS * looked.valkey_seconds / calls,
        }
    return writes, others


async def _counted(
    running: Fleet, asking: Clients, kind: str, calls: int, *, in_flight: int, at: int = 0
) -> Counters:
    """What calls of one kind at one replica took.

    Raises:
        WrongAnswerError: one failed.
    """
    target = running.replicas[at]
    mix = {kind: 1.0}
    order = Order(target.address, STREAM, running.population.to_json(), mix, in_flight=in_flight)
    before = Counters.of(running)
    outcome = await asking.load(replace(order, calls=calls), target)
    if outcome.failures:
        raise WrongAnswerError(f"{dict(outcome.failed)} requests failed")
    return Counters.of(running).since(before)


def _of_writes(taken: Counters, calls: int) -> _Writes:
    return _Writes(
        round_trips=(taken.scripts + taken.lookups) / calls,
        operations=taken.operations / calls,
        reads=taken.reads / calls,
        feed_bytes=taken.feed_bytes / calls,
        valkey=MICROS * taken.valkey_seconds / calls,
        writer=MICROS * taken.cpu_seconds[0] / calls,
        reader=MICROS * taken.cpu_seconds[-1] / calls,
    )


def _reader(single: _Writes, batched: _Writes) -> tuple[float, float]:
    """CPU µs of a read and of an event in a replica that only follows: two loads, two unknowns."""
    reads, fewer = single.reads / REPLICAS, batched.reads / REPLICAS
    read = max(0.0, (single.reader - batched.reader) / (reads - fewer))
    return read, max(0.0, batched.reader - read * fewer)


async def _memory(folder: Path, *, few_tokens: bool) -> tuple[float, float, float, float]:
    """Bytes: of a replica at its start; of a session in it; of a session and an event in Valkey."""
    number = MEMORY_SESSIONS[few_tokens]
    population = Population.of(number)
    if not few_tokens:
        population = replace(population, subjects=number)
    settings = f"cached_tokens = {FEW_TOKENS}" if few_tokens else ""
    async with fleet(folder, population, 1, settings=settings) as running, clients(1) as asking:
        base = running.replicas[0].resident_bytes()
        half = number // 2
        await _counted(running, asking, "seed", half, in_flight=64)
        resident = running.replicas[0].resident_bytes()
        grown = await _counted(running, asking, "seed", half, in_flight=64)
        session = (running.replicas[0].resident_bytes() - resident) / half
        before = Counters.of(running).memory_bytes
        with running.valkey.client() as client:
            client.xtrim("authsvc:{0}:events", maxlen=0, approximate=False)
        events = before - Counters.of(running).memory_bytes
        valkey_event = events / number
    return base, session, grown.memory_bytes / half - valkey_event, valkey_event
