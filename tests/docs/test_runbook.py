"""What the runbook says that logs say, they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for package in ("authsvc", "mcp_adapter")
    for path in sorted((ROOT / package).rglob("*.py"))
)
LINES = re.findall(r"^\| logs say `([^`]+)` \|", RUNBOOK, re.MULTILINE)


def test_there_are_lines_to_look_at() -> None:
    assert {"keys have changed and are unfit", "the current secret stays"} <= set(LINES)


@pytest.mark.parametrize("line", LINES)
def test_the_programs_log_it(line: str) -> None:
    for part in line.split(" … "):
        assert part in SOURCE
