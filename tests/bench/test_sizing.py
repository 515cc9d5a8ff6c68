"""Sizes: the formulas, the file of measured figures, and that docs/sizing.md has what they give."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.figures import table as rendered
from bench.simulate import HEAD, Scenario, Simulation, row
from bench.sizing import formulas
from bench.sizing.__main__ import USERS, main, tables
from bench.sizing.formulas import Assumptions, size
from bench.sizing.inputs import MEASURED, Inputs
from bench.sizing.measure import tool_call

PAGE = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text(encoding="utf-8")

ROUND = Inputs(
    adapter_micros=1_000,
    authsvc_micros=100,
    reauthentication_micros=1_000,
    lookup_micros=500,
    reauthentication_round_trips=2,
    reauthentication_operations=8,
    creation_round_trips=2,
    creation_operations=8,
    lookup_operations=1,
    feed_read_micros=200,
    feed_event_micros=100,
    feed_event_bytes=500,
    valkey_write_micros=200,
    valkey_read_micros=50,
    valkey_lookup_micros=20,
    valkey_session_bytes=600,
    valkey_event_bytes=400,
    base_bytes=80e6,
    session_bytes=1_000,
    busy_session_bytes=10_000,
)

SIMULATED = (
    (100.0, 2_000.0, 400, 0.0, (3, 10, 30, 100)),
    (500.0, 10_000.0, 2_000, 0.0, (3, 10)),
    (500.0, 10_000.0, 2_000, 0.005, (3, 10)),
)
"""Of the page: writes, requests, sessions, pause, and the rows that are simulated again. The others
take 20 s of processor time."""


@pytest.mark.parametrize("text", tables(Inputs.load(), Assumptions(), USERS))
def test_the_page_has_what_the_formulas_give(text: str) -> None:
    assert text in PAGE


@pytest.mark.parametrize(("writes", "requests", "sessions", "pause", "counts"), SIMULATED)
def test_the_page_has_what_the_simulation_gives(
    writes: float, requests: float, sessions: int, pause: float, counts: tuple[int, ...]
) -> None:
    inputs, rows = Inputs.load(), []
    for replicas in counts:
        scenario = replace(Scenario.even(replicas, writes, requests, sessions), pause=pause)
        rows.append(row(replicas, Simulation(inputs, scenario).run()))
    assert rendered(HEAD, rows) in PAGE


def test_the_page_names_machine_date_and_every_assumption() -> None:
    machine = json.loads(MEASURED.read_text(encoding="utf-8"))["machine"]
    assert f"On {machine['time'][:10]}, {machine['cpus']}, Python {machine['python']}" in PAGE
    # The log's length is in a formula, and a replica has one event loop.
    shown = {it.name for it in fields(Assumptions)} - {"events_kept", "replica_cores"}
    assert [name for name in shown if f"`{name}`" not in PAGE] == []


def test_rates_follow_from_the_users() -> None:
    calls, writes = formulas.rates(Assumptions(), 100_000)
    assert calls == pytest.approx(3 * 100_000 * 0.1 / 60)
    assert writes == pytest.approx(3 * 100_000 * 0.2 * 1.5 / 3_600)
    # Once in 864 s each session in use, unless it is used more rarely.
    assert formulas.touch_rate(Assumptions(), 100_000) == pytest.approx(30_000 / 864)
    assert formulas.touch_rate(Assumptions(calls_a_minute=1e-4), 100_000) == pytest.approx(0.5)


def test_the_feed_costs_every_replica_the_same() -> None:
    assert formulas.feed_share(ROUND, 1_000) == pytest.approx(0.3)
    assert formulas.feed_limit(ROUND, Assumptions()) == pytest.approx(2_000)
    assert formulas.costliest_replicas(ROUND, calls_a_token=20) == pytest.approx(10)
    # 0.6 s of a second, less 500 writes of 200 µs, by 500 reads of 50 µs.
    assert formulas.valkey_replicas(ROUND, 500) == pytest.approx(20)
    assert formulas.valkey_replicas(ROUND, 5_000) == 0


def test_lookups_are_bounded_by_replicas_and_by_calls() -> None:
    assert formulas.lookup_rate(1_000, 10, 3) == 20
    assert formulas.lookup_rate(15, 10, 3) == 15


def test_few_users_take_two_replicas_and_one_installation() -> None:
    few = size(ROUND, Assumptions(), 100)
    assert (few.installations, few.replicas, few.adapter_cores) == (1, 2, 2)
    assert few.replica_bytes == pytest.approx(80e6 + 30 * 10_000)
    assert few.valkey_bytes == pytest.approx(4 / 3 * (200 * 600 + 100_000 * 400))


@pytest.mark.parametrize("users", [10_000, 1_000_000, 30_000_000])
def test_a_size_is_enough(users: int) -> None:
    it, found = Assumptions(), size(ROUND, Assumptions(), users)
    calls, writes = (rate / found.installations for rate in formulas.rates(it, users))
    touches = formulas.touch_rate(it, users) / found.installations
    lookups = formulas.lookup_rate(calls, writes, found.replicas)
    work = calls * 100 + writes * 1_000 + (lookups + touches) * 500
    assert work / 1e6 / found.replicas + writes * 300 / 1e6 <= it.utilisation
    assert found.feed_share <= it.utilisation / 2
    assert found.valkey_cores <= formulas.VALKEY_PART
    assert found.adapter_cores * it.utilisation >= found.calls * 1_000 / 1e6


def test_caches_bound_a_replicas_memory() -> None:
    assert formulas.replica_bytes(ROUND, 20_000) == pytest.approx(
        80e6 + 16_384 * 10_000 + (20_000 - 16_384) * 1_000
    )
    assert formulas.replica_bytes(ROUND, 1e9) == formulas.replica_bytes(ROUND, 1e5)


def test_figures_survive_the_file(tmp_path: Path) -> None:
    ROUND.save(tmp_path / "inputs.json", {"cpus": "2"})
    assert Inputs.load(tmp_path / "inputs.json") == ROUND
    assert len(ROUND.described()) == len(asdict(ROUND))
    (tmp_path / "other.json").write_text('{"figures": {"adapter_micros": 1}}')
    with pytest.raises(ValueError, match=r"other\.json"):
        Inputs.load(tmp_path / "other.json")


def test_a_tool_call_costs_what_the_dearer_revision_does() -> None:
    def samples(*micros: float) -> list[dict[str, dict[str, float]]]:
        return [{"micros": {"app": it, "authsvc": it / 10}} for it in micros]

    peers: dict[str, object] = {
        "calls": {
            "adapter, 2025-11-25": samples(600, 500, 700),
            "adapter, 2026-07-28": samples(800, 900, 1_000),
            "gate, 2025-11-25": samples(9_000),
        }
    }
    assert tool_call(peers) == (900, 90)
    others: list[dict[str, object]] = [{}, {"calls": {"gate, 2025-11-25": samples(1)}}]
    for other in others:
        with pytest.raises(ValueError, match=r"bench\.peers"):
            tool_call(other)


def test_the_command_takes_other_assumptions_and_inputs(tmp_path: Path) -> None:
    ROUND.save(tmp_path / "inputs.json", {})
    options = ["--inputs", str(tmp_path / "inputs.json"), "--users", "6000"]
    usual = CliRunner().invoke(main, options)
    assert "30" in next(it for it in usual.output.splitlines() if "tool calls a second, at" in it)
    twice = CliRunner().invoke(main, [*options, "--assume", "peak_factor=6"])
    assert "60" in next(it for it in twice.output.splitlines() if "tool calls a second, at" in it)
    for wrong, words in (
        (["--assume", "peak=6"], "none of calls_a_minute"),
        (["--assume", "peak_factor=much"], "no number"),
        (["--inputs", str(tmp_path / "none")], "No such file"),
        (["--measure"], "needs --peers"),
    ):
        result = CliRunner().invoke(main, wrong)
        assert result.exit_code
        assert words in result.output
