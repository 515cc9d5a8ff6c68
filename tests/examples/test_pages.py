"""What docs/protect-your-server.md and the examples' pages show is there, and is Python."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer

from mcp_adapter import middleware
from mcp_adapter.requirements import Requirement, required, with_broader_scopes
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
    assert gates == 6


PUBLISH = Requirement(("docs.write", "docs.publish"))

CALLS: list[tuple[str, dict[str, object], Requirement | None]] = [
    ("tools/call", {"name": "search"}, Requirement(("docs.read",))),
    ("tools/call", {"name": "search", "arguments": {"q": "x"}}, Requirement(("docs.read",))),
    ("tools/call", {"name": "publish", "arguments": {"draft": True}}, Requirement(("docs.write",))),
    ("tools/call", {"name": "publish", "arguments": {"draft": False}}, PUBLISH),
    ("tools/call", {"name": "publish"}, PUBLISH),
    ("tools/call", {"name": "another"}, Requirement()),
    ("tools/call", {"name": ["publish"]}, Requirement()),
    ("tools/call", {}, Requirement()),
    ("tools/list", {}, Requirement()),
    ("initialize", {}, None),
    ("resources/read", {"uri": "x:y"}, Requirement()),
]


@pytest.mark.parametrize(("method", "params", "needed"), CALLS)
def test_the_requirement_of_the_page_does_what_it_says(
    method: str, params: dict[str, object], needed: Requirement | None
) -> None:
    (block,) = (text for text in blocks(PAGE, "python") if "def requirement(" in text)
    page: dict[str, Any] = {}
    exec(block, page)  # noqa: S102 - the page's own code

    assert required(page["requirement"], method, params) == needed


def test_the_gate_of_the_page_takes_its_requirement() -> None:
    requirement, gate = (
        text
        for text in blocks(PAGE, "python")
        if "def requirement(" in text or "requirement=requirement" in text
    )
    page: dict[str, Any] = {"mcp": MCPServer("page"), "SessionGate": middleware.SessionGate}
    exec(requirement, page)  # noqa: S102 - the page's own code
    exec(gate, page)  # noqa: S102 - the page's own code

    assert isinstance(page["app"], middleware.SessionGate)


def test_a_call_of_broader_scopes_on_the_page_is_one() -> None:
    (text,) = re.findall(r"with_broader_scopes\(requirement, .*?\)`", PAGE.read_text(), re.DOTALL)
    page: dict[str, Any] = {
        "requirement": lambda method, params: Requirement(("docs.read",)),
        "with_broader_scopes": with_broader_scopes,
    }
    needed = eval(text.strip("`"), page)("tools/call", {})  # noqa: S307 - the page's own code
    assert needed.met_by({"docs.admin"})


def test_it_shows_what_the_examples_do() -> None:
    """The two lines of each framework, with the example's own address in place of the page's."""
    page = " ".join(PAGE.read_text().split())
    for example in ("official_sdk", "fastmcp_app"):
        text = (ROOT / "examples" / example / "server.py").read_text()
        (gate,) = re.findall(r"SessionGate\(\s+(\S+\(.*?\)),\s+resolver", text)
        assert f"SessionGate( {gate}, resolver=" in page
