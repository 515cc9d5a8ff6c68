"""Whether the machine was quiet, from Linux's accounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import quiet
from bench.quiet import Account

QUIET = Account(time=0.0, busy=100.0, steal=5.0, own=40.0)


@pytest.mark.parametrize(
    ("after", "found"),
    [
        # Two CPUs for ten seconds: twenty in all.
        (Account(10.0, 115.0, 5.0, 54.5), []),
        (Account(10.0, 115.0, 5.0, 50.0), ["other processes took 25% of the CPUs"]),
        (Account(10.0, 115.0, 8.0, 55.0), ["the hypervisor took 15% of the CPUs"]),
        # Ticks are rounded: a process may have more than all have together.
        (Account(10.0, 110.0, 5.0, 52.0), []),
        (Account(0.0, 115.0, 9.0, 40.0), []),
    ],
)
def test_what_others_took_is_doubted(after: Account, found: list[str]) -> None:
    assert quiet.doubts(QUIET, after, cpus=2) == found


def stat(pid: int, parent: int, ticks: tuple[int, int, int, int]) -> str:
    middle = " ".join(["0"] * 9)
    return f"{pid} (a (name) x) S {parent} {middle} {' '.join(map(str, ticks))} 20 0\n"


def test_an_account_counts_descendants_and_those_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "_CPUS", frozenset({1}))
    monkeypatch.setattr(quiet, "_TICKS", 100)
    me = os.getpid()
    processes = {
        me: (1, (100, 50, 30, 20)),
        me + 1: (me, (1_000, 0, 0, 0)),
        me + 2: (me + 1, (10, 0, 0, 0)),
        me + 3: (1, (7_777, 0, 0, 0)),
    }
    for pid, (parent, ticks) in processes.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat(pid, parent, ticks))
    (tmp_path / "99999999").mkdir()  # it ended meanwhile
    lines = ("cpu 9 9 9 9 9 9 9 9 9 9", "cpu0 8 8 8 8 8 8 8 8 0 0", "cpu1 300 20 80 9 9 9 9 50 0 0")
    (tmp_path / "stat").write_text("\n".join((*lines, "intr 1")))
    account = Account.now(tmp_path)
    assert (account.busy, account.steal, account.own) == (4.0, 0.5, 12.1)


def test_a_block_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = iter([QUIET, Account(10.0, 300.0, 5.0, 40.0)])
    monkeypatch.setattr(Account, "now", lambda: next(accounts))
    with quiet.watched() as watch:
        assert watch.doubts == ()
    assert len(watch.doubts) == 1


def test_this_process_is_its_own() -> None:
    before = Account.now()
    sum(range(3_000_000))
    assert Account.now().own >= before.own > 0
