"""The checks of made-up histories, and one real run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chaos import report
from chaos.faults import FAULTS, Bounds, Failures, Fault
from chaos.figures import Growth
from chaos.history import Act, Call, History
from chaos.identity import ISSUER
from chaos.injections import none
from chaos.replica import SteppedClock
from chaos.run import Plan, Result, judge, run
from chaos.stage import Setup

GONE = "SESSION_REVOKED"
AWAY = "STORE_UNAVAILABLE"


def call(act: Act, start: float, via: str = "load-0", reason: str = "", **more: object) -> Call:
    values = {"session": "s", "subject": "alice", "token": 1, "task": 1, "reason": reason, **more}
    answered = "alice" if act is Act.RESOLVE and not reason else ""
    return Call(act, via, start, start + 0.01, 2, answered=answered, **values)  # type: ignore[arg-type] # by name


def history(*more: Call) -> History:
    """One revocation that is obeyed at once, and more."""
    revocation = call(Act.REVOKE, 10)
    asked = call(Act.RESOLVE, 10.02, "replica-0", GONE)
    return History([revocation, asked, *more], {"over": 20})


def judged(bounds: Bounds, *more: Call, memory: Growth | None = None) -> Result:
    watched = {"replica-0": memory} if memory else {}
    return judge(Fault("made-up", "", none, bounds), history(*more), watched)


def failing(start: float, task: int = 7) -> Call:
    return call(Act.RESOLVE, start, reason=AWAY, task=task, session="other")


def mending(start: float, task: int = 7) -> Call:
    return call(Act.RESOLVE, start, task=task, session="other")


@pytest.mark.parametrize(
    ("bounds", "more", "memory"),
    [
        (Bounds(obeyed_p99_seconds=0.05), (), None),
        (Bounds(Failures.ANY, recovery_seconds=2), (failing(15), failing(21)), None),
        (Bounds(Failures.MENDED), (failing(15), mending(15.5)), None),
        (Bounds(growth_kb_per_minute=9), (), Growth(1, 1, 9)),
        (Bounds(clocks_agree=False), (replace(mending(15), reason="TOKEN_EXPIRED"),), None),
    ],
)
def test_a_run_within_its_bounds_passes(
    bounds: Bounds, more: tuple[Call, ...], memory: Growth | None
) -> None:
    result = judged(bounds, *more, memory=memory)
    assert result.passed
    assert report.findings(result) == []


@pytest.mark.parametrize(
    ("bounds", "more", "memory", "finding"),
    [
        (Bounds(), (failing(15),), None, "failures"),
        (Bounds(Failures.MENDED), (failing(15), mending(15.5, 8)), None, "unmended"),
        (Bounds(Failures.ANY, recovery_seconds=2), (failing(22.5),), None, "recovered after"),
        (Bounds(), (mending(15), replace(mending(16), reason="TOKEN_EXPIRED")), None, "causeless"),
        (Bounds(), (call(Act.RESOLVE, 12),), None, "stale"),
        (Bounds(growth_kb_per_minute=9), (), Growth(1, 9, 10), "memory grew"),
    ],
)
def test_a_run_beyond_its_bounds_fails(
    bounds: Bounds, more: tuple[Call, ...], memory: Growth | None, finding: str
) -> None:
    result = judged(bounds, *more, memory=memory)
    assert not result.passed
    assert any(line.startswith(finding) for line in report.findings(result))


def test_a_revocation_that_is_obeyed_late_fails_a_run() -> None:
    slow = (
        call(Act.REVOKE, 30, session="t"),
        call(Act.RESOLVE, 30.02, "replica-0", session="t"),
        call(Act.RESOLVE, 30.10, "replica-0", session="t"),
        call(Act.RESOLVE, 30.12, "replica-0", GONE, session="t"),
    )
    assert judged(Bounds(), *slow).passed
    assert not judged(Bounds(obeyed_p99_seconds=0.05), *slow).passed


def test_a_run_without_measurements_fails() -> None:
    result = judge(FAULTS[0], History(), {})
    assert result.missed == ("nothing was measured",)


def test_a_violation_without_a_call_fails_a_run() -> None:
    result = judge(Fault("made-up", "", none, Bounds()), history(), {}, ["it has started"])
    assert result.missed == ("it has started",)


def test_the_report_has_the_calls_that_violate_a_guarantee(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    result = judged(Bounds(), call(Act.RESOLVE, 12))
    report.write(path, [result], {"seconds": 1})
    (written,) = json.loads(path.read_text())["runs"]
    assert not written["passed"]
    assert written["violations"][0]["call"]["session"] == "s"
    assert [item["act"] for item in written["trail"]] == ["revoke", "resolve", "resolve"]
    assert "BROKEN" in report.summary([result])


def test_a_clock_is_stepped(tmp_path: Path) -> None:
    path = tmp_path / "offset"
    path.write_text("0")
    clock = SteppedClock(path)
    assert time.time() <= clock() <= time.time()
    path.write_text("-1800")
    assert time.time() <= clock() <= time.time()
    clock.step()
    assert time.time() - 1800 <= clock() <= time.time() - 1800


def the(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.fixture
def tell() -> Callable[[str], None]:
    return lambda text: None


@pytest.mark.anyio
async def test_a_real_run(tmp_path: Path, tell: Callable[[str], None]) -> None:
    plan = Plan(seconds=1, calls_per_second=100, seed=1)
    # How fast the machine is has no say here: only what is always true, and that it was seen. A
    # busy machine makes calls late, fewer, and slow to show what is obeyed.
    fault = replace(the("replica-paused"), bounds=Bounds(Failures.ANY))
    result = await run(fault, plan, tmp_path, tell)
    assert [it for it in result.violations if it.rule != "late"] == []
    assert result.figures.obeyed.count
    assert result.figures.refusals["SESSION_REVOKED"]
    assert result.figures.refusals["SESSION_SUBJECT_MISMATCH"]
    assert ISSUER not in report.summary([result])
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_signals_through_an_outage_of_the_store(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """What is not acknowledged is sent again; none that is acknowledged is lost."""
    plan = Plan(seconds=1, calls_per_second=30, seed=1)
    fault = replace(
        the("store-paused"),
        bounds=Bounds(Failures.ANY),
        setup=Setup(signals_per_second=10.0),
    )
    result = await run(fault, plan, tmp_path, tell)
    assert [it for it in result.violations if it.rule != "late"] == []
    assert result.figures.signals[""]
    assert result.figures.obeyed.count
