"""What differs from what is expected is found, whichever way it differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance import report
from conformance.baseline import FILE, Baseline
from conformance.suite import REVISIONS, Scenario, Verdict

ROOT = Path(__file__).parents[2]

EXPECTED = """
[scenarios]
"2026-07-28" = 3

[[deviations]]
revision = "2026-07-28"
configurations = ["with a token"]
scenarios = ["second"]
verdict = "fails"
fault = "the suite's"
why = "It is so."
"""

RUN = [
    Scenario("first", "", Verdict.PASSES, 2),
    Scenario("second", "extension", Verdict.FAILS, 1, ("check: it broke",)),
    Scenario("third", "", Verdict.PASSES, 14),
]


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    """One of three scenarios fails, with a token."""
    file = tmp_path / "expected.toml"
    file.write_text(EXPECTED)
    return Baseline.load(file)


def differences(baseline: Baseline, run: list[Scenario], where: str = "with a token") -> list[str]:
    return list(baseline.differences({("2026-07-28", where): run}))


def test_what_comes_out_as_expected_is_no_difference(baseline: Baseline) -> None:
    assert differences(baseline, RUN) == []


def test_a_deviation_is_one_of_its_configuration_alone(baseline: Baseline) -> None:
    (found,) = differences(baseline, RUN, "anonymous")

    assert found.splitlines() == [
        "2026-07-28, anonymous: second fails, expected: passes",
        "    check: it broke",
    ]


@pytest.mark.parametrize("verdict", [Verdict.FAILS, Verdict.WARNS, Verdict.NOT_RUN])
def test_a_regression_is_found(baseline: Baseline, verdict: Verdict) -> None:
    (found,) = differences(baseline, [replace(RUN[0], verdict=verdict), *RUN[1:]])

    assert found == f"2026-07-28, with a token: first {verdict.value}, expected: passes"


def test_a_baseline_that_expects_too_little_is_found(baseline: Baseline) -> None:
    (found,) = differences(baseline, [RUN[0], replace(RUN[1], verdict=Verdict.PASSES), RUN[2]])

    assert "second passes, expected: fails" in found


def test_a_scenario_that_did_not_run_is_missed(baseline: Baseline) -> None:
    assert differences(baseline, RUN[:2]) == ["2026-07-28, with a token: 2 scenarios, not 3"]


def test_the_page_tells_each_scenario_and_each_reason(baseline: Baseline) -> None:
    page = report.render({("2026-07-28", "with a token"): RUN}, baseline, "1.2.3")

    assert "`@modelcontextprotocol/conformance` 1.2.3" in page
    assert "| 2026-07-28 | with a token | 2 of 2 | 0 of 1 |" in page
    assert "| `second` | no: extension | **fails** |" in page
    assert "| `third` | yes | passes (14) |" in page
    assert "`second` (with a token): **fails**. Whose fault: the suite's.\n\n> It is so.\n" in page


def test_no_scored_scenario_of_the_last_revision_is_expected_to_fail() -> None:
    page = (ROOT / report.FILE).read_text()
    (section,) = [part for part in page.split("\n## ") if part.startswith(REVISIONS[-1])]
    rows = [line for line in section.splitlines() if line.startswith("| `")]

    assert len(rows) == Baseline.load().counts[REVISIONS[-1]]
    assert not [row for row in rows if "| yes |" in row and "**" in row]
    (headers,) = [row for row in rows if "`http-header-validation`" in row]
    assert headers.count("passes (") == 2


def test_the_page_and_the_baseline_are_of_one_mind() -> None:
    page = (ROOT / report.FILE).read_text()
    baseline = Baseline.load(FILE)

    for deviation in baseline.deviations:
        for scenario in deviation.scenarios:
            assert f"| `{scenario}` |" in page
    deviating = sum(len(deviation.scenarios) for deviation in baseline.deviations)
    rows = [line for line in page.splitlines() if line.startswith("| `") and "**" in line]
    assert len(rows) == deviating
