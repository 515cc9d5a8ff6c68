"""A section, on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.apps import PATHS
from bench.section import Options
from bench.sections import anonymous, audit, credentials, gate, independent, refresh, signals

pytestmark = pytest.mark.anyio


async def test_the_gates_section_has_all_sides(tmp_path: Path) -> None:
    section = await gate.run(Options(tmp_path, rounds=1))
    assert [row[0] for row in section.rows] == [
        f"{era}, {path}" for era in gate.ERAS for path in PATHS
    ]
    assert len(section.goals) == 2
    assert all(goal.measured.median > 0 for goal in section.goals)


async def test_what_is_not_installed_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    section = await independent.run(Options(tmp_path, rounds=1))
    assert section.rows == ()
    assert "nghttp2-client" in section.notes[0]


async def test_the_section_on_anonymous_clients_has_all_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anonymous, "CALLS", 3)
    section = await anonymous.run(Options(tmp_path, rounds=1))
    assert [row[0] for row in section.rows] == [anonymous.ALONE, *anonymous.FLOODS]
    assert len(section.goals) == len(anonymous.FLOODS)


async def test_the_section_on_the_audit_has_all_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SESSIONS", 20)
    monkeypatch.setattr(audit, "CALLS", 80)
    section = await audit.run(Options(tmp_path, rounds=1))
    kinds = ["Check", *(f"gate, {era}" for era in gate.ERAS)]
    assert [row[0] for row in section.rows] == [
        f"{kind}: {mode}" for kind in kinds for mode in audit.MODES
    ]
    # What is measured has been written.
    written = {path.parent.name for path in tmp_path.rglob("checks") if path.stat().st_size}
    assert {"2", "3"} <= written


async def test_the_section_on_signals_has_all_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "SESSIONS", 20)
    monkeypatch.setattr(signals, "SIGNALS", 20)
    monkeypatch.setattr(signals, "SECONDS", 0.2)
    section = await signals.run(Options(tmp_path, rounds=1))
    assert [row[0].partition(": ")[2] for row in section.rows[: len(signals.KINDS)]] == [
        *signals.KINDS
    ]
    assert len(section.rows) == len(signals.KINDS) + 1 + len(signals.FLOODS)
    assert len(section.goals) == len(signals.FLOODS)


async def test_new_tokens_are_beside_bare_verifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "SESSIONS", 100)
    monkeypatch.setattr(refresh, "CALLS", 16)
    section = await refresh.run(Options(tmp_path, rounds=1))
    assert [row[0] for row in section.rows] == ["raw echo, unary", refresh.BARE, *refresh.SIDES]
    assert all(goal.measured.median > 0 for goal in section.goals)


async def test_the_section_on_credentials_has_all_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "SESSIONS", 20)
    monkeypatch.setattr(credentials, "CALLS", dict.fromkeys(credentials.CALLS, 80))
    section = await credentials.run(Options(tmp_path, rounds=1))
    assert [row[0] for row in section.rows] == [
        f"{name}, {rpc}" for rpc in ("unary", "stream") for name in credentials.KINDS
    ]
    assert len(section.goals) == 4
    assert section.notes[0].endswith(" 10 calls of the token endpoint then, 0 since.")
