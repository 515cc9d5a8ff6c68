"""The simulation: what must hold whatever the figures are, and its check on real replicas."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bench.fleet import Counters
from bench.simulate import Outcome, Scenario, Simulation, main
from bench.sizing import check
from bench.sizing.check import Compared, compared
from bench.sizing.inputs import Inputs
from tests.bench.test_sizing import ROUND


def run(
    replicas: int, writes: float, requests: float = 0.0, sessions: int = 100, **others: float
) -> Outcome:
    even = Scenario.even(replicas, writes, requests, sessions)
    return Simulation(ROUND, Scenario(even.writes, even.requests, sessions, **others)).run()  # type: ignore[arg-type] # fields of Scenario


def test_every_replica_applies_every_event() -> None:
    outcome = run(5, 100)
    assert outcome.events == pytest.approx(outcome.writes, abs=0.5)
    assert outcome.writes == pytest.approx(100, rel=0.15)


def test_events_come_alone_while_there_is_time() -> None:
    outcome = run(3, 50)
    assert outcome.reads >= outcome.events * 0.95
    assert outcome.feed_share == pytest.approx(50 * 300 / 1e6, rel=0.2)
    # A read of one event: 300 µs of CPU after it was appended.
    assert outcome.visible_ms[0] == pytest.approx(0.3, abs=0.01)


def test_a_replica_that_is_busy_reads_several_at_once() -> None:
    outcome = run(1, 5_000, seconds=2.0)
    assert outcome.events == pytest.approx(outcome.writes, rel=0.02)
    assert outcome.reads < outcome.events / 1.5
    assert outcome.feed_share <= 1.0


def test_a_replica_whose_feed_is_too_much_falls_behind() -> None:
    outcome = run(1, 20_000, seconds=1.0)
    assert outcome.feed_share == pytest.approx(1.0, abs=0.1)
    assert outcome.events < outcome.writes * 0.7
    assert outcome.visible_ms[2] > 100


def test_reads_without_events_are_polls() -> None:
    quiet = Simulation(ROUND, Scenario([1.0], [0.0], 10, seconds=60.0)).run()
    assert quiet.reads == pytest.approx(10, rel=0.2)


def test_a_pause_batches_and_delays() -> None:
    without, paused = run(3, 500), run(3, 500, pause=0.005)
    assert paused.reads < without.reads / 2
    assert paused.events == pytest.approx(without.events, rel=0.02)
    assert paused.visible_ms[1] < 7


def test_a_write_evicts_elsewhere_alone() -> None:
    assert run(1, 50, 1_000).lookups == 0
    # 20 requests to a new token, and each of three replicas is asked often enough to need it.
    outcome = run(3, 50, 1_000, sessions=50)
    assert 0.5 * 100 < outcome.lookups <= 100 * 1.2
    assert outcome.round_trips == pytest.approx(2 * outcome.writes + outcome.lookups)


def test_the_seed_decides() -> None:
    assert run(3, 50, 100, seed=1) == run(3, 50, 100, seed=1)
    assert run(3, 50, 100, seed=1) != run(3, 50, 100, seed=2)


def test_the_command_shows_a_row_for_each_number() -> None:
    options = ["--replicas", "2", "--replicas", "4", "--writes", "20", "--seconds", "1"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert [line.split("|")[1].strip() for line in result.stdout.splitlines()[2:]] == ["2", "4"]
    assert "50 %" in result.stderr


@pytest.mark.parametrize(
    ("predicted", "measured", "absolute", "holds"),
    [
        (100, 90, False, True),
        (100, 79, False, False),
        (100, 140, False, False),
        (1, 0, False, False),
        (0.2, 0.0, True, True),
        (0.0, 0.4, True, False),
    ],
)
def test_a_prediction_holds_within_its_bound(
    predicted: float, measured: float, absolute: bool, holds: bool
) -> None:
    it = Compared("it", predicted, measured, 0.25, absolute=absolute)
    assert it.holds == holds
    assert it.row()[-1] == ("yes" if holds else "NO")


def counted(lookups: int) -> Counters:
    """What three replicas did in ten seconds, as the simulation below has it."""
    return Counters(
        operations=0,
        reads=1_800,
        feed_bytes=1_800 * 500,
        lookups=lookups,
        scripts=600,
        valkey_seconds=0.0,
        memory_bytes=0,
        cpu_seconds=(0.0, 0.0, 0.0),
    )


def outcome_of(lookups: float) -> Outcome:
    return Outcome(
        writes=60,
        reads=60,
        events=60,
        lookups=lookups,
        round_trips=120 + lookups,
        visible_ms=(0.3, 1.0, 1.0),
    )


def test_all_counts_are_compared() -> None:
    rows = compared(outcome_of(50), counted(1_100), 1.0, ROUND)
    assert [it.name for it in rows if not it.holds] == []
    wrong = compared(outcome_of(5), counted(1_100), 30.0, ROUND)
    assert [it.name.split(" ")[0] for it in wrong if not it.holds] == ["records", "visible"]


def test_a_wrong_prediction_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    async def real(folder: object, step: object) -> tuple[Counters, float]:
        return counted(lookups=9_999), 0.0

    monkeypatch.setattr(check, "_real", real)
    monkeypatch.setattr(Inputs, "load", lambda path: ROUND)
    result = CliRunner().invoke(main, ["--check"])
    assert result.exit_code == 1
    assert "the simulation is off: records" in result.output
