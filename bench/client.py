"""One client process: ``python -m bench.client`` takes orders on standard input, a line each.

An order is prepared first, connections and requests and all, and "ready" said. The next line is
when to begin, by the monotonic clock that all processes of a machine share. The result is a line,
too.

An open loop asks at times that were drawn beforehand, however slow the answers are, and measures
each latency from the time at which the request was due: what had to wait because something else was
slow is counted ("coordinated omission" avoided). A closed loop asks anew with each answer: it
measures cost and throughput, and its latencies say little.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Self

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped] # it has no stubs

from bench.calls import STREAM, UNARY, Answer, Calls, connect
from bench.checks import CHECK, check_of, is_allowed
from bench.mixes import KINDS, RESOLVE, Kind, Part, Requests
from bench.population import Population

MICROS = 1e6

MOST_MICROS = 60_000_000
DIGITS = 3
"""Of an HDR histogram: up to a minute, to a thousandth."""

DRAIN_SECONDS = 10.0
"""How long the last answers are waited for; those that do not come count as errors."""

SERVED = -1.0
"""In place of the time at which a request was asked."""

CHECKED_EVERY = 50
"""One in so many answers is compared with its row. Whether it is an error, always is."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to do.

    Attributes:
        target: whom to ask.
        method: the RPC: one of ours, Envoy's Check, or an echo's, whose answers are not looked at.
        population: see ``Population.to_json``.
        mix: weights of kinds; see ``bench.mixes.KINDS``.
        index: which part of the population this process has.
        of: among so many parts.
        connections: how many it opens.
        rate: open loop: requests a second of this process, on an average.
        seconds: open loop: for how long.
        calls: closed loop, where there is no rate: how many requests in all.
        in_flight: closed loop: unanswered at a time, over all connections.
        spread: how many sessions of its part it asks about, where requests change nothing. It has
            their requests in memory, 5 KB each.
    """

    target: str
    method: str
    population: str
    mix: Mapping[str, float]
    index: int = 0
    of: int = 1
    connections: int = 1
    rate: float = 0.0
    seconds: float = 0.0
    calls: int = 0
    in_flight: int = 8
    spread: int = 10_000

    def to_json(self) -> str:
        """A line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """What ``to_json`` gave."""
        return cls(**json.loads(line))

    def dues(self) -> list[float]:
        """When an open loop asks, in seconds from its start: a Poisson process, as independent
        callers make it. Empty for a closed loop."""
        draw = random.Random(self.index)  # noqa: S311 - a sample
        gaps = (draw.expovariate(self.rate) for _ in itertools.count()) if self.rate else ()
        return list(itertools.takewhile(lambda due: due < self.seconds, itertools.accumulate(gaps)))


@dataclass(slots=True)
class Tally:
    """What came of it.

    Attributes:
        latencies: µs, by kind, of the requests that were answered as they should be.
        lags: µs by which an open loop asked later than it should have.
        failed: requests, by kind, that were refused and should not have been, or the other way
            round, or were not answered at all.
        wrong: answers that were not what their row says, among those that were compared.
        seconds: from the beginning to the last answer.
        cpu_seconds: of this process meanwhile.
    """

    latencies: dict[str, list[int]]
    lags: list[int] = field(default_factory=list)
    failed: Mapping[str, int] = field(default_factory=dict)
    wrong: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def to_json(self) -> str:
        """A line; times are HDR histograms in it."""
        return json.dumps(
            {
                "latencies": {kind: encoded(times) for kind, times in self.latencies.items()},
                "lags": encoded(self.lags),
                "failed": self.failed,
                "wrong": self.wrong,
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
            }
        )


def histogram() -> HdrHistogram:
    """An empty one, for µs."""
    return HdrHistogram(1, MOST_MICROS, DIGITS)


def encoded(micros: Sequence[int]) -> str:
    """An HDR histogram of these times, as text."""
    times = histogram()
    for value in micros:
        times.record_value(max(1, min(value, MOST_MICROS)))
    return str(times.encode().decode("ascii"))


class Load:
    """One order, prepared.

    Args:
        order: what to do.
        requests: makes the requests.

    Raises:
        OSError: the target cannot be reached.
    """

    def __init__(self, order: Order, requests: Requests) -> None:
        self._order = order
        self._dues = order.dues()
        self._is_check = order.method == CHECK
        self._requests, before = requests.take(
            order.mix,
            len(self._dues) or order.calls,
            order.spread,
            check_of if self._is_check else RESOLVE,
        )
        self._connections = [connect(order.target, order.method) for _ in range(order.connections)]
        self._by_socket = {calls.connection.socket: calls for calls in self._connections}
        self._resolves = order.method in (UNARY, STREAM)
        self._asked_at = [0.0] * len(self._requests)
        self._unanswered = len(self._requests)
        self._tally = Tally({kind: [] for kind in order.mix})
        # Connections are warm, and what has to be there is, before the clock runs.
        self._closed_loop(before, lambda number, answer: None)

    def run(self, start: float) -> Tally:
        """Do it.

        Args:
            start: when to begin, by ``time.monotonic``.

        Raises:
            OSError: a connection broke.
            bench.http2.ConnectionEndedError: the server ended a connection.
        """
        gc.collect()
        gc.disable()
        time.sleep(max(0.0, start - time.monotonic()))
        cpu_start = time.process_time()
        if self._dues:
            self._open_loop(start)
        else:
            self._closed_loop([request for _, request in self._requests], self._answered)
        self._tally.seconds = time.monotonic() - start
        self._tally.cpu_seconds = time.process_time() - cpu_start
        gc.enable()
        unserved = zip(self._asked_at, self._requests, strict=True)
        self._tally.failed = Counter(kind for at, (kind, _) in unserved if at != SERVED)
        for calls in self._connections:
            calls.connection.close()
        return self._tally

    def _open_loop(self, start: float) -> None:
        connections = itertools.cycle(self._connections)
        dues, number = [start + due for due in self._dues], 0
        end = start + self._order.seconds + DRAIN_SECONDS
        while self._unanswered and (now := time.monotonic()) < end:
            while number < len(dues) and dues[number] <= now:
                next(connections).ask(number, self._requests[number][1])
                self._asked_at[number] = dues[number]
                self._tally.lags.append(round(MICROS * (now - dues[number])))
                number += 1
            until = dues[number] if number < len(dues) else end
            for _ in self._answers(until - now, self._answered):
                pass

    def _closed_loop(
        self, requests: Sequence[bytes], answered: Callable[[int, Answer], None]
    ) -> None:
        each = max(1, self._order.in_flight // len(self._connections))
        free = [calls for calls in self._connections for _ in range(each)]
        number, unanswered, last = 0, len(requests), time.monotonic()
        while unanswered:
            now = time.monotonic()
            if now - last > DRAIN_SECONDS:
                raise TimeoutError("no answer for a long time")
            for calls, request in zip(free, requests[number : number + len(free)], strict=False):
                self._asked_at[number] = now
                calls.ask(number, request)
                number += 1
            free = self._answers(DRAIN_SECONDS, answered)
            unanswered -= len(free)
            last = now if free else last

    def _answers(self, seconds: float, answered: Callable[[int, Answer], None]) -> list[Calls]:
        """Send what is queued, then wait so long for answers; the connection of each."""
        for calls in self._connections:
            calls.flush()
        blocked = [
            socket for socket, calls in self._by_socket.items() if calls.connection.wants_to_write
        ]
        # select(2) and not an event loop, whose timers are late by up to a millisecond.
        readable, _, _ = select.select(self._by_socket, blocked, (), max(0.0, seconds))
        came_on = []
        for socket in readable:
            calls = self._by_socket[socket]
            for number, answer in calls.answers():
                answered(number, answer)
                came_on.append(calls)
        return came_on

    def _answered(self, number: int, answer: Answer) -> None:
        self._unanswered -= 1
        name, kind = self._requests[number][0], KINDS[self._requests[number][0]]
        if self._resolves and (answer is None) == bool(kind.outcomes):
            return
        if self._is_check and answer is None:
            return
        latency = time.monotonic() - self._asked_at[number]
        self._asked_at[number] = SERVED
        self._tally.latencies[name].append(round(MICROS * latency))
        if number % CHECKED_EVERY == 0 and not self._is_right(kind, answer):
            self._tally.wrong += 1

    def _is_right(self, kind: Kind, answer: Answer) -> bool:
        """An echo's answers are not looked at."""
        if self._resolves:
            return kind.is_right(answer)
        if self._is_check and isinstance(answer, bytes):
            return is_allowed(answer) == bool(kind.outcomes)
        return True


@lru_cache(maxsize=4)
def _requests(population: str, part: Part) -> Requests:
    """Kept from order to order: tokens take their time, and go on from where they were."""
    return Requests(Population.from_json(population), part)


def main() -> None:
    """Take orders until standard input ends."""
    for line in sys.stdin:
        order = Order.from_json(line)
        load = Load(order, _requests(order.population, Part(order.index, order.of)))
        _say("ready")
        _say(load.run(float(sys.stdin.readline())).to_json())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
