"""What docs/protect-your-server.md and the examples' pages show is there, and is Python."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

from mcp_adapter import middleware
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "protect-your-server.md"
PAGES = [PAGE, *sorted((ROOT / "examples").rglob("README.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_are_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
    for command in blocks(page, "sh"):
        for path in re.findall(r"examples/\S+\.(?:py|toml)", command):
            assert (ROOT / path).exists(), path


def test_the_python_of_the_page_is_python() -> None:
    gates = 0
    for block in blocks(PAGE, "python"):
        wrapped = "async def page():\n" + textwrap.indent(block, "    ")
        for node in ast.walk(ast.parse(wrapped)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "SessionGate":
                gates += 1
                known = middleware.SessionGate.__init__.__annotations__
                assert {word.arg for word in node.keywords} <= set(known)
    assert gates == 4


def test_it_shows_what_the_examples_do() -> None:
    """The two lines of each framework, with the example's own address in place of the page's."""
    page = " ".join(PAGE.read_text().split())
    for example in ("official_sdk", "fastmcp_app"):
        text = (ROOT / "examples" / example / "server.py").read_text()
        (gate,) = re.findall(r"SessionGate\(\s+(\S+\(.*?\)),\s+resolver", text)
        assert f"SessionGate( {gate}, resolver=" in page
