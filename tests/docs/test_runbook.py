"""The runbook shows what the programs log, and has an entry for each alert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for package in ("authsvc", "mcp_adapter")
    for path in sorted((ROOT / package).rglob("*.py"))
)


def section(title: str) -> str:
    return RUNBOOK.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def alerts() -> dict[str, str]:
    """By name, where an alert says that its runbook is."""
    rules = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text(encoding="utf-8"))
    return {
        rule["alert"]: rule["annotations"]["runbook"]
        for group in rules["groups"]
        for rule in group["rules"]
    }


LINES = re.findall(r"^\| `([^`]+)` \|", section("By log line"), re.MULTILINE)
ENTRIES = dict(
    re.findall(r"^### (\w+)\n\n(.+?)\n(?=\n|\Z)", section("By alert"), re.MULTILINE | re.DOTALL)
)


def test_there_are_lines_to_look_at() -> None:
    assert {"keys have changed and are invalid", "the current secret stays"} <= set(LINES)


@pytest.mark.parametrize("line", LINES)
def test_the_programs_log_it(line: str) -> None:
    for part in re.split(r" ?… ?", line):
        assert part in SOURCE


def test_each_alert_leads_to_its_entry() -> None:
    assert set(alerts()) == set(ENTRIES)
    for name, runbook in alerts().items():
        assert runbook == f"docs/runbook.md#{name.lower()}"
        assert len(ENTRIES[name]) > 40, name


def test_each_row_says_what_it_means_and_what_to_do() -> None:
    for title in ("By symptom", "By log line"):
        rows = [it.strip("|").split("|") for it in section(title).splitlines() if it[:1] == "|"]
        assert len(rows) > 10
        for row in rows:
            assert len(row) == 3, row
            assert all(cell.strip() for cell in row), row
