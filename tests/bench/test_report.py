"""The report: goals first, all samples kept, and nothing fetched from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

from bench import report
from bench.figures import Summary
from bench.section import Goal, Plot, Section

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
