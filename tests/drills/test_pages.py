"""The drills and the pages say the same: headings, commands, and the table of the drills."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.catalogue import DRILLS
from drills.drill import Drill
from tests.support.processes import ROOT

RUNBOOKS = sorted((ROOT / "drills").rglob("*.py"))
PAGES = ("docs/operations.md", "docs/runbook.md")
RUNNERS = {"run", "valkey_cli"}
"""Methods of ``Stage`` whose first argument is a command of a page."""


def commands(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in RUNNERS and ast.unparse(node.func.value) in {"stage", "self"}:
            (first, *_) = node.args
            assert isinstance(first, ast.Constant), f"{path}: {ast.unparse(node)}"
            yield str(first.value)


def words(text: str) -> str:
    """Without the ends of lines, and their backslashes."""
    return " ".join(text.replace("\\\n", " ").split())


def test_each_command_of_a_drill_is_in_a_page() -> None:
    pages = words("".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES))
    pages = pages.replace("/opt/authsvc/bin/python -m authsvc", "authsvc")
    found = {command for path in RUNBOOKS for command in commands(path)}
    assert len(found) > 5
    assert [it for it in sorted(found) if it not in pages] == []


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_each_drill_has_its_heading_and_its_row(drill: Drill) -> None:
    page, _, anchor = drill.page.partition("#")
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = [it.lower() for it in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", it).replace(" ", "-") for it in headings}
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert f"| `{drill.name}` |" in operations
