"""What counts as a failed call, and what makes a drill miss its bar."""

from __future__ import annotations

import pytest

from drills import report
from drills.drill import Drill
from drills.report import Result
from drills.stage import Stage
from drills.tally import Call, Step, Tally


async def no_steps(_: Stage) -> None:
    pass


DRILL = Drill("made-up", "", "docs/operations.md#rotation", "69 of 560", no_steps)


def tally(*steps: Step) -> Tally:
    """Steps that are over, and a last one that lasts."""
    made = Tally()
    made.steps = [*steps]
    return made


def call(start: float, end: float, failure: str = "503", kind: str = "known") -> Call:
    return Call(kind, start, end, failure)


def outage(*spares: str) -> Step:
    return Step("outage", 10, is_outage=True, spares=frozenset(spares), end=20)


@pytest.mark.parametrize(
    ("failed", "disallowed"),
    [
        (call(21, 22), 1),
        (call(19, 22), 0),
        (call(9, 9.5), 1),
        (call(19, 22, kind="create"), 1),
        (call(21, 22, failure=""), 0),
    ],
)
def test_a_call_may_fail_where_a_part_of_it_was_in_an_outage(failed: Call, disallowed: int) -> None:
    made = tally(outage("create"), Step("after", 20))
    made.count(failed)
    assert made.calls == 1
    assert made.disallowed == disallowed
    assert made.failed == bool(failed.failure)


def test_a_call_counts_in_the_step_in_which_it_ends() -> None:
    made = Tally()
    made.count(call(0, 1))
    made.begin("one")
    made.count(call(0, 1))
    made.begin("two", is_outage=True)
    made.count(call(0, 1, ""))
    made.close()
    made.count(call(0, 1))
    assert [len(step.calls) for step in made.steps] == [1, 1]
    assert made.failed == 1


def test_a_drill_passes_where_no_call_fails_but_in_an_outage() -> None:
    made = tally(outage(), Step("after", 20))
    made.count(call(19, 21))
    result = Result(DRILL, made, (), ("measured",))
    assert result.passed
    assert "0 of 1 calls failed  (1 more in an outage by design)" in report.of_drills([result])
    assert "first trial: 69 of 560" in report.of_drills([result])
    assert "1 known: 503" in report.of_steps(result)
    assert "measured" in report.of_steps(result)


@pytest.mark.parametrize(
    ("calls", "missed"), [((), ()), ((call(21, 22),), ()), ((call(21, 22, ""),), ("not so: x",))]
)
def test_a_drill_misses_its_bar(calls: tuple[Call, ...], missed: tuple[str, ...]) -> None:
    """Without a call, with one that failed, or with a check that does not hold."""
    made = tally(Step("step", 20))
    for each in calls:
        made.count(each)
    result = Result(DRILL, made, missed, ())
    assert not result.passed
    assert "MISSED" in report.of_drills([result])
    assert all(text in report.of_steps(result) for text in missed)
