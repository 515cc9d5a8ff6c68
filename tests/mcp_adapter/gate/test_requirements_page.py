"""``docs/requirements.md`` names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "requirements.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| requirement "))
]


def names_of_tests(path: Path) -> set[str]:
    """Names of the tests of a file, read without running it."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_row_has_a_requirement_a_place_and_a_test() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
        assert re.fullmatch(r"`[\w/]+\.py::\w+`(, `[\w/]+\.py::\w+`)*", row[2]), row


def test_every_test_that_is_named_exists() -> None:
    for path, name in re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE):
        assert name in names_of_tests(ROOT / "tests" / path), f"{path}::{name}"


def test_what_its_own_tests_hold_is_listed() -> None:
    own = names_of_tests(ROOT / "tests" / "mcp_adapter" / "gate" / "test_resource_server.py")
    named = set(re.findall(r"test_resource_server\.py::(\w+)`", PAGE))

    assert {name for name in own if name.startswith("test_")} == named
