"""The report: goals first, all samples kept, and nothing fetched from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report
from bench.figures import Summary
from bench.section import Goal, Plot, Section, exit_status

SECTION = Section(
    "Latency <over> load",
    head=("", "p99, ms"),
    rows=[["unary", "1.20 (1.10-1.30)"]],
    notes=("A note.",),
    samples={"unary": [1.1, 1.2, 1.3]},
    goals=[
        Goal("p99", 3.0, Summary(1.2, 1.1, 1.3), unit="ms"),
        Goal("throughput", 0.9, Summary(0.8, 0.7, 0.95), at_least=True),
    ],
    plots=[Plot("Latency", "requests/s", "ms", {"p99": [(100, 1.0), (200, 2.0)]}, log_y=True)],
)


def draw(plot: Plot) -> str:
    return f"<svg><title>{plot.title}</title></svg>"


def test_a_page_stands_by_itself(tmp_path: Path) -> None:
    report.write(tmp_path, [SECTION], {"rounds": 3}, draw)
    page = (tmp_path / "report.html").read_text()
    assert "Latency &lt;over&gt; load" in page
    assert page.count("<svg") == 1
    assert "src=" not in page
    assert "<link" not in page
    assert '<td class="yes">' in page
    assert '<td class="no">' in page


def test_json_has_every_sample_and_the_verdicts(tmp_path: Path) -> None:
    report.write(tmp_path, [SECTION], {"rounds": 3}, draw)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["sections"][0]["samples"] == {"unary": [1.1, 1.2, 1.3]}
    assert [goal["met"] for goal in written["goals"]] == [True, False]
    assert written["settings"] == {"rounds": 3}


def test_text_shows_the_goals_first() -> None:
    first, *_ = report.as_text([SECTION]).split("##")
    assert "≤ 3.00 ms" in first
    assert "≥ 0.90" in first


LATE = replace(SECTION.goals[0], doubts=["requests were asked 2.0 ms late (p99)"])


def test_a_goal_whose_load_was_late_has_no_verdict(tmp_path: Path) -> None:
    late = replace(SECTION, goals=[LATE, SECTION.goals[1]])
    report.write(tmp_path, [late], {}, draw)
    goals = json.loads((tmp_path / "report.json").read_text())["goals"]
    assert [goal["met"] for goal in goals] == [None, False]
    assert goals[0]["verdict"] == "no verdict: requests were asked 2.0 ms late (p99)"
    assert '<td class="none">no verdict: requests' in (tmp_path / "report.html").read_text()
    assert "no verdict: requests" in report.as_text([late]).partition("##")[0]


def test_a_disturbed_section_has_no_verdicts(tmp_path: Path) -> None:
    disturbed = replace(SECTION, doubts=["other processes took 25% of the CPUs"])
    report.write(tmp_path, [disturbed, SECTION], {}, draw)
    goals = json.loads((tmp_path / "report.json").read_text())["goals"]
    assert [goal["met"] for goal in goals] == [None, None, True, False]
    note = "Disturbed: other processes took 25% of the CPUs. No verdict."
    assert (tmp_path / "report.html").read_text().count(f"<p>{note}</p>") == 1
    assert report.as_text([disturbed, SECTION]).count(note) == 1


@pytest.mark.parametrize(
    ("goals", "doubts", "status"),
    [
        (SECTION.goals[:1], (), 0),
        (SECTION.goals, (), 1),
        ([LATE], (), 3),
        ([LATE, SECTION.goals[1]], (), 1),
        (SECTION.goals, ("a busy machine",), 3),
        ((), (), 0),
    ],
)
def test_the_exit_status_tells_missed_from_no_verdict(
    goals: list[Goal], doubts: tuple[str, ...], status: int
) -> None:
    assert exit_status([replace(SECTION, goals=goals, doubts=doubts)]) == status
