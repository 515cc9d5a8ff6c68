"""Figures: what a table says is what was sampled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.figures import Sample, Summary, table, write_report

SAMPLE = Sample(calls=2000, seconds=0.5, server_cpu_seconds=0.4, client_cpu_seconds=0.3)


def test_a_sample_counts_by_call() -> None:
    assert SAMPLE.calls_per_second == pytest.approx(4000)
    assert SAMPLE.server_micros == pytest.approx(200)
    assert SAMPLE.client_micros == pytest.approx(150)
    assert SAMPLE.server_load == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("values", "summary"),
    [
        ([5.0], Summary(5.0, 5.0, 5.0)),
        ([9.0, 1.0, 2.0], Summary(2.0, 1.5, 5.5)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], Summary(3.0, 2.0, 4.0)),
    ],
)
def test_a_summary_is_median_and_quartiles(values: list[float], summary: Summary) -> None:
    assert Summary.of(values) == summary


def test_ratios_are_taken_round_by_round() -> None:
    # The second round was twice as slow for both; the sides did not change places.
    assert Summary.of_ratios([10.0, 20.0, 10.0], [5.0, 10.0, 5.0]) == Summary(2.0, 2.0, 2.0)


def test_differences_are_taken_round_by_round() -> None:
    assert Summary.of_differences([10.0, 20.0, 11.0], [5.0, 15.0, 5.0]) == Summary(5.0, 5.0, 5.5)


def test_sides_with_different_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Summary.of_ratios([1.0, 2.0], [1.0])


def test_a_summary_shows_its_spread() -> None:
    assert Summary(1234.56, 1000.0, 2000.0).show(1) == "1,234.6 (1,000.0-2,000.0)"


def test_a_table_is_aligned() -> None:
    assert table(["", "µs"], [["echo", "7"], ["row 8", "12.5"]]).splitlines() == [
        "|       |   µs |",
        "| ----- | ---: |",
        "| echo  |    7 |",
        "| row 8 | 12.5 |",
    ]


def test_a_report_keeps_every_sample_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    later = Sample(calls=1, seconds=1.0, server_cpu_seconds=1.0, client_cpu_seconds=1.0)
    write_report(path, {"rounds": 2}, {"echo": [SAMPLE, later]}, lookup_micros={1000: [5.5]})
    report = json.loads(path.read_text())
    assert report["settings"] == {"rounds": 2}
    assert [sample["calls"] for sample in report["samples"]["echo"]] == [2000, 1]
    assert report["lookup_micros"] == {"1000": [5.5]}
    assert report["machine"]["grpcio"]
