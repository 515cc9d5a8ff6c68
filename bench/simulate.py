"""``python -m bench.simulate``: N replicas over one feed, simulated, and checked against three.

A discrete-event model. Each write is appended to the feed, and every replica reads the feed: a
read that finds nothing waits, and one that finds events takes CPU for itself and for each event
before the replica reads on. So events that arrive meanwhile come together in the next read. An
event evicts the session's record in every other replica, and the next request about it there
looks the record up in Valkey.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import quantiles

import click

from authsvc.stores.redis.log import READ_COUNT
from authsvc.stores.redis.partition import POLL_MS
from bench.figures import MICROS, table
from bench.sizing.inputs import MEASURED, Inputs

POLL_SECONDS = POLL_MS / 1_000
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated.

    Attributes:
        writes: new tokens a second at each replica.
        requests: other requests a second at each replica.
        sessions: that both are about, picked at random.
        seconds: for how long.
        seed: of the random numbers.
        pause: least seconds from one read of a replica to its next, where events are there; 0 as
            authsvc is.
        in_turn: whether sessions get their new tokens in turn, and not at random.
    """

    writes: Sequence[float]
    requests: Sequence[float]
    sessions: int
    seconds: float = 10.0
    seed: int = 1
    pause: float = 0.0
    in_turn: bool = False

    @classmethod
    def even(cls, replicas: int, writes: float, requests: float, sessions: int) -> Scenario:
        """Rates of all replicas together, spread evenly."""
        return cls([writes / replicas] * replicas, [requests / replicas] * replicas, sessions)


@dataclass(slots=True)
class Outcome:
    """What came of it, over all replicas, a second where nothing else is said.

    Attributes:
        writes: appended events.
        reads: of the feed that a replica made, those without events included.
        events: that a replica applied.
        lookups: records read from Valkey for requests, by all replicas.
        round_trips: to Valkey, of all replicas, the feed apart.
        feed_share: of a core, in each replica.
        valkey_share: of a core.
        visible_ms: from the append until a replica has applied it: median, 99th percentile, most.
    """

    writes: float = 0.0
    reads: float = 0.0
    events: float = 0.0
    lookups: float = 0.0
    round_trips: float = 0.0
    feed_share: float = 0.0
    valkey_share: float = 0.0
    visible_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(slots=True)
class _Replica:
    """A replica: which sessions it has not cached, what of the feed it has not read, and what it
    reads at the moment."""

    missing: set[int] = field(default_factory=set)
    unread: deque[tuple[float, int, int]] = field(default_factory=deque)
    reading: list[tuple[float, int, int]] = field(default_factory=list)
    is_waiting: bool = True
    asked_at: float = 0.0
    next_read: float = 0.0
    reads: int = 0
    events: int = 0


class Simulation:
    """One run.

    Args:
        inputs: what was measured.
        scenario: what is simulated.
    """

    def __init__(self, inputs: Inputs, scenario: Scenario) -> None:
        self._read = inputs.feed_read_micros / MICROS
        self._event = inputs.feed_event_micros / MICROS
        self._inputs = inputs
        self._scenario = scenario
        self._random = random.Random(scenario.seed)  # noqa: S311 - a simulation
        # A fleet that has served for a while: everything is cached.
        self._replicas = [_Replica() for _ in scenario.writes]
        self._queue: list[tuple[float, int, str, int]] = []
        self._count = 0
        self._writes = self._lookups = 0
        self._delays: list[float] = []

    def run(self, step: Step = lambda text: None) -> Outcome:
        """Run it; a replica whose feed takes more than its core falls behind, and is reported so.

        Args:
            step: told how far it is, ten times.
        """
        scenario = self._scenario
        for number, (writes, requests) in enumerate(
            zip(scenario.writes, scenario.requests, strict=True)
        ):
            self._schedule_next(0.0, "write", number, writes)
            self._schedule_next(0.0, "request", number, requests)
        told = 0
        while self._queue and self._queue[0][0] < scenario.seconds:
            now, _, kind, number = heapq.heappop(self._queue)
            if now >= (told + 1) * scenario.seconds / 10:
                told += 1
                step(f"{told * 10} %")
            if kind == "write":
                self._write(now, number)
                self._schedule_next(now, kind, number, scenario.writes[number])
            elif kind == "request":
                self._request(number)
                self._schedule_next(now, kind, number, scenario.requests[number])
            elif kind == "begin":
                self._begin_read(now, number)
            else:
                self._has_read(now, number)
        return self._outcome()

    def _schedule(self, at: float, kind: str, number: int) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, kind, number))

    def _schedule_next(self, now: float, kind: str, number: int, rate: float) -> None:
        if rate > 0:
            self._schedule(now + self._random.expovariate(rate), kind, number)

    def _write(self, now: float, number: int) -> None:
        sessions = self._scenario.sessions
        in_turn = self._scenario.in_turn
        session = self._writes % sessions if in_turn else self._random.randrange(sessions)
        self._writes += 1
        self._replicas[number].missing.discard(session)
        for other, replica in enumerate(self._replicas):
            replica.unread.append((now, session, number))
            if replica.is_waiting:
                # The reads that found nothing since.
                replica.reads += int((now - replica.asked_at) / POLL_SECONDS)
                self._read_on(now, other)

    def _request(self, number: int) -> None:
        replica = self._replicas[number]
        session = self._random.randrange(self._scenario.sessions)
        if session in replica.missing:
            self._lookups += 1
            replica.missing.discard(session)

    def _read_on(self, now: float, number: int) -> None:
        replica = self._replicas[number]
        replica.is_waiting = False
        if replica.next_read > now:
            self._schedule(replica.next_read, "begin", number)
        else:
            self._begin_read(now, number)

    def _begin_read(self, now: float, number: int) -> None:
        replica = self._replicas[number]
        replica.reads += 1
        replica.next_read = now + self._scenario.pause
        replica.reading = [
            replica.unread.popleft() for _ in range(min(READ_COUNT, len(replica.unread)))
        ]
        taken = self._read + self._event * len(replica.reading)
        self._schedule(now + taken, "read", number)

    def _has_read(self, now: float, number: int) -> None:
        replica = self._replicas[number]
        for appended, session, writer in replica.reading:
            replica.events += 1
            self._delays.append(now - appended)
            if writer != number:
                replica.missing.add(session)
        if replica.unread:
            self._read_on(now, number)
        else:
            replica.is_waiting, replica.asked_at = True, now

    def _outcome(self) -> Outcome:
        seconds, count = self._scenario.seconds, len(self._replicas)
        reads = sum(replica.reads for replica in self._replicas)
        events = sum(replica.events for replica in self._replicas)
        it = self._inputs
        valkey = (
            self._writes * it.valkey_write_micros
            + reads * it.valkey_read_micros
            + self._lookups * it.valkey_lookup_micros
        )
        cuts = quantiles(self._delays, n=100) if len(self._delays) > 1 else [0.0] * 99
        return Outcome(
            writes=self._writes / seconds,
            reads=reads / count / seconds,
            events=events / count / seconds,
            lookups=self._lookups / seconds,
            round_trips=(self._writes * it.reauthentication_round_trips + self._lookups) / seconds,
            feed_share=(reads * self._read + events * self._event) / count / seconds,
            valkey_share=valkey / MICROS / seconds,
            visible_ms=(1e3 * cuts[49], 1e3 * cuts[98], 1e3 * max(self._delays, default=0.0)),
        )


HEAD = (
    *("replicas", "writes/s", "reads of the feed/s", "events a read", "a replica's core"),
    *("Valkey's core", "lookups/s", "visible, ms", "p99"),
)


def row(replicas: int, outcome: Outcome) -> list[str]:
    """For a table with ``HEAD``."""
    return [
        f"{replicas}",
        f"{outcome.writes:,.0f}",
        f"{outcome.reads:,.0f}",
        f"{outcome.events / outcome.reads if outcome.reads else 0:.2f}",
        f"{outcome.feed_share:.0%}",
        f"{outcome.valkey_share:.0%}",
        f"{outcome.lookups:,.0f}",
        f"{outcome.visible_ms[0]:.1f}",
        f"{outcome.visible_ms[1]:.1f}",
    ]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: python -m bench.simulate --replicas 3 --replicas 30 --writes 500",
)
@click.option(
    "--replicas",
    multiple=True,
    type=click.IntRange(1, 1_000),
    default=(3, 10, 30, 100),
    show_default=True,
    help="How many; may be repeated.",
)
@click.option(
    "--writes",
    type=click.FloatRange(min=0.0, min_open=True),
    default=100.0,
    show_default=True,
    help="New tokens a second, over all replicas.",
)
@click.option(
    "--requests",
    type=click.FloatRange(min=0.0),
    default=2_000.0,
    show_default=True,
    help="Other requests a second, over all replicas.",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="Sessions that both are about: few, so that each gets several new tokens in that time.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3_600.0),
    default=10.0,
    show_default=True,
    help="Simulated time.",
)
@click.option("--seed", default=1, show_default=True, help="Of the random numbers.")
@click.option(
    "--pause-ms",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="If a replica read the feed at most so often; 0 as authsvc is.",
)
@click.option("--check", is_flag=True, help="Compare with three real replicas over a real Valkey.")
def main(
    replicas: tuple[int, ...],
    writes: float,
    requests: float,
    sessions: int,
    seconds: float,
    seed: int,
    pause_ms: float,
    check: bool,
) -> None:
    """Simulate replicas of authsvc over one feed, on the figures of bench/sizing/inputs.json.

    With --check, three real replicas get a known load instead, and the simulation the same; it
    fails when a count differs by more than the stated bound.
    """
    if check:
        # It starts servers; simulating needs none of that.
        from bench.sizing.check import run_check

        run_check(seed, lambda text: click.echo(text, err=True))
        return
    inputs = Inputs.load(MEASURED)
    rows = []
    for number in replicas:
        click.echo(f"{number} replicas", err=True)
        even = Scenario.even(number, writes, requests, sessions)
        scenario = replace(even, seconds=seconds, seed=seed, pause=pause_ms / 1e3)
        outcome = Simulation(inputs, scenario).run(lambda text: click.echo(f"  {text}", err=True))
        rows.append(row(number, outcome))
    click.echo(table(HEAD, rows))


if __name__ == "__main__":
    main()
