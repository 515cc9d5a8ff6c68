"""One client process's work: when it asks, from when latency counts, and what it calls wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from authsvc.v1 import auth_pb2 as pb
from bench import client
from bench.calls import UNARY, Answer
from bench.client import Load, Order
from bench.mixes import KINDS, Part, Requests
from bench.population import Population

POPULATION = Population.of(100)
ORDER = Order("", UNARY, POPULATION.to_json(), {"hot": 1.0}, rate=1_000.0, seconds=0.5)


class Stalling:
    """Calls that are answered at once, but for one that holds up whatever comes after it."""

    stall_seconds = 0.2

    def __init__(self) -> None:
        self.socket, self._theirs = socket.socketpair()
        self.wants_to_write = False
        self.connection = self
        self._asked: list[int] = []
        self._stalled = False

    def ask(self, number: int, request: bytes) -> None:
        self._asked.append(number)

    def flush(self) -> None:
        if self._asked:
            self._theirs.send(b"!")

    def answers(self) -> Iterator[tuple[int, Answer]]:
        self.socket.recv(1 << 16)
        if not self._stalled and self._asked[0] > 50:
            self._stalled = True
            time.sleep(self.stall_seconds)
        asked, self._asked = self._asked, []
        for number in asked:
            yield (
                number,
                pb.ResolveSessionResponse(
                    outcome=pb.OUTCOME_REUSED, principal=pb.Principal(subject="ada")
                ),
            )

    def close(self) -> None:
        self.socket.close()
        self._theirs.close()


def test_an_open_loop_asks_at_random_at_the_rate_it_was_given() -> None:
    order = replace(ORDER, rate=2_000.0, seconds=10.0)
    dues = order.dues()
    assert len(dues) == pytest.approx(20_000, rel=0.05)
    assert dues == sorted(dues)
    assert dues == order.dues()
    assert dues != replace(order, index=1).dues()


def test_a_closed_loop_has_no_times() -> None:
    assert replace(ORDER, rate=0.0, calls=10).dues() == []


def test_what_waited_behind_a_stall_counts_from_when_it_was_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "connect", lambda target, method: Stalling())
    load = Load(ORDER, Requests(POPULATION, Part(0, 1)))
    tally = load.run(time.monotonic())
    held_up = [micros for micros in tally.latencies["hot"] if micros > 10_000]
    # A thousand a second for 200 ms; a generator that waits for its answers would see one.
    assert len(held_up) > 100
    assert max(held_up) >= 1e6 * Stalling.stall_seconds * 0.9
    assert max(tally.lags) > 100_000  # which the generator, held up itself here, says
    assert not tally.failed


def test_an_error_that_should_be_none_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Stalling):
        def answers(self) -> Iterator[tuple[int, Answer]]:
            return ((number, None) for number, _ in super().answers())

    monkeypatch.setattr(client, "connect", lambda target, method: Refusing())
    refused = Load(ORDER, Requests(POPULATION, Part(0, 1))).run(time.monotonic())
    assert refused.failed["hot"] == len(ORDER.dues())
    assert refused.latencies["hot"] == []


def test_each_row_knows_its_answer() -> None:
    reused = pb.ResolveSessionResponse(
        outcome=pb.OUTCOME_REUSED, principal=pb.Principal(subject="ada")
    )
    anonymous = pb.ResolveSessionResponse(outcome=pb.OUTCOME_REUSED)
    assert KINDS["hot"].is_right(reused)
    assert KINDS["hot"].is_right(reused.SerializeToString())
    assert not KINDS["hot"].is_right(anonymous)
    assert not KINDS["hot"].is_right(None)
    assert not KINDS["refresh"].is_right(reused)
    assert KINDS["tokenless"].is_right(anonymous)
    assert not KINDS["tokenless"].is_right(reused)
    assert KINDS["without"].is_right(reused)
    assert not KINDS["bearer"].is_right(reused)
    reused.named_credentials.add(name="api").credentials.bearer.access_token = "x"
    assert KINDS["bearer"].is_right(reused)
    assert not KINDS["without"].is_right(reused)
    assert not KINDS["hot"].is_right(reused)
    assert KINDS["refused"].is_right(None)
    assert not KINDS["refused"].is_right(reused)
