"""What docs/protect-your-server.md and the examples' pages show is there, and is Python."""

from __future__ import annotations

import ast
import logging
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.routing import Route

from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth.requirements import required
from mcp_adapter import Requirement, with_broader_scopes
from mcp_adapter.gate import middleware
from tests.mcp_adapter.harness import RESOURCE, MemoryResolver
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "protect-your-server.md"
PAGES = [PAGE, *sorted((ROOT / "examples").rglob("README.md"))]


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(text) for _, text in found]


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
    assert gates == 8


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


@pytest.mark.parametrize(
    ("method", "params", "needed"),
    [
        ("tools/call", {"name": "search"}, Requirement(("docs.read",))),
        ("tools/call", {"name": "serach"}, Requirement(("docs.unlisted",))),
        ("tools/call", {}, Requirement(("docs.unlisted",))),
        ("resources/read", {"uri": "x:y"}, Requirement()),
        ("initialize", {}, None),
    ],
)
def test_the_requirement_of_the_page_can_be_closed(
    method: str, params: dict[str, object], needed: Requirement | None
) -> None:
    (block,) = (text for text in blocks(PAGE, "python") if "def requirement(" in text)
    (closing,) = (text for text in blocks(PAGE, "python") if "docs.unlisted" in text)
    last = "    return default_requirement"
    page: dict[str, Any] = {}
    closed = block.replace(last, textwrap.indent(closing, "    ") + last)
    exec(closed, page)  # noqa: S102 - the page's own code

    assert required(page["requirement"], method, params) == needed


@contextmanager
def logging_as_a_program_finds_it() -> Iterator[None]:
    """Nothing is set up; pytest's own handlers are put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    ours = [logging.getLogger(name) for name in ("mcp_adapter", "authsvc")]
    levels = [logger.level for logger in ours]
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger, before in zip(ours, levels, strict=True):
            logger.setLevel(before)


@pytest.mark.anyio
async def test_the_logging_of_the_page_shows_the_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (block,) = (text for text in blocks(PAGE, "python") if "basicConfig" in text)
    resolver = MemoryResolver(rejected={"forged": Reason.TOKEN_SIGNATURE_INVALID})
    gate = middleware.SessionGate(Starlette(), resolver=resolver, resource=RESOURCE)
    headers = {"Authorization": "Bearer forged", "Mcp-Session-Id": "0123456789"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    transport = httpx2.ASGITransport(gate)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gate") as http:
        with logging_as_a_program_finds_it():
            exec(block, {})  # noqa: S102 - the page's own code
            await http.post("/mcp", headers=headers, json=ping)
            logging.getLogger("another").info("of another library, not shown")
            logging.getLogger("another").warning("a line without fields")

    lines = capsys.readouterr().err.splitlines()
    (refused,) = (line for line in lines if "INFO authsvc.http_auth.resolving: " in line)
    (another,) = (line for line in lines if " another: " in line)
    assert "request rejected: TOKEN_SIGNATURE_INVALID" in refused
    assert refused.endswith("reason='TOKEN_SIGNATURE_INVALID' session='01234567…' subject=''")
    assert another.endswith("a line without fields reason='' session='' subject=''")


@pytest.mark.anyio
async def test_the_readiness_of_the_page_asks_authsvc() -> None:
    (block,) = (text for text in blocks(PAGE, "python") if "def readyz(" in text)
    page: dict[str, Any] = {}
    exec(block, page)  # noqa: S102 - the page's own code
    resolver = page["authsvc"] = MemoryResolver()
    page["RESOURCE"] = RESOURCE
    app = Starlette(routes=[Route("/readyz", page["readyz"])])
    gate = middleware.SessionGate(app, resolver=resolver, resource=RESOURCE, open_paths=["/readyz"])
    transport = httpx2.ASGITransport(gate)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gate") as http:
        ready = await http.get("/readyz")
        resolver.error = AuthError(Reason.CALLER_NOT_ALLOWED)
        unready = await http.get("/readyz")

    assert ready.status_code == 200
    assert (unready.status_code, unready.json()) == (503, {"reason": "CALLER_NOT_ALLOWED"})


def test_the_gates_of_the_page_take_its_requirement() -> None:
    requirement, *gates = (
        text
        for text in blocks(PAGE, "python")
        if "def requirement(" in text or "requirement=requirement" in text
    )
    page: dict[str, Any] = {"mcp": MCPServer("page"), "SessionGate": middleware.SessionGate}
    exec(requirement, page)  # noqa: S102 - the page's own code
    assert len(gates) == 2
    for gate in gates:
        page["app"] = None
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
