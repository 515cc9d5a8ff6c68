"""The scopes that FastMCP tools declare, as the gate's requirement."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import AuthCheck, require_roles, require_scopes, restrict_tag
from fastmcp.server.middleware import AuthMiddleware
from fastmcp.server.transforms import Transform
from fastmcp.tools import Tool

from authsvc.domain.resolution import Principal
from authsvc.http_auth.authorization import requirement_for
from authsvc.http_auth.requirements import RequirementOf
from mcp_adapter import Requirement, SessionGate, default_requirement
from mcp_adapter.fastmcp import requirement_of
from mcp_adapter.gate.list_filter import ListFilter
from mcp_adapter.testing import FakeResolver
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    message_of,
    request,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS

ANY_TOKEN = Requirement()
roles = require_roles("admin", extract=lambda claims: list(claims["roles"]))


def server() -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("declaring")

    @mcp.tool
    def read() -> str:
        return "read"

    @mcp.tool(auth=require_scopes("docs.write", "docs.read"))
    def write() -> str:
        return "written"

    @mcp.tool(auth=[require_scopes("docs.write"), require_scopes("docs.publish")])
    def publish() -> str:
        return "published"

    @mcp.tool(tags={"draft"}, auth=restrict_tag("draft", scopes=["docs.draft"]))
    def draft() -> str:
        return "drafted"

    @mcp.tool(auth=restrict_tag("draft", scopes=["docs.draft"]))
    def untagged() -> str:
        return "untagged"

    @mcp.tool(auth=[require_scopes("docs.write"), roles])
    def administer() -> str:
        return "administered"

    @mcp.tool(name="versioned", version="1", auth=require_scopes("a", "b"))
    def first() -> str:
        return "first"

    @mcp.tool(name="versioned", version="2", auth=require_scopes("b", "c"))
    def second() -> str:
        return "second"

    return mcp


@pytest.mark.parametrize(
    ("tool", "scopes"),
    [
        ("read", ()),
        ("write", ("docs.read", "docs.write")),
        ("publish", ("docs.publish", "docs.write")),
        ("draft", ("docs.draft",)),
        ("untagged", ()),
        ("administer", ()),  # not by scopes alone
        ("versioned", ("b",)),
        ("unknown", ()),
        (None, ()),
        (["write"], ()),
    ],
)
def test_what_a_tool_declares(tool: object, scopes: tuple[str, ...]) -> None:
    assert requirement_of(server())("tools/call", {"name": tool}) == Requirement(scopes)


@pytest.mark.parametrize(
    ("checks", "tool", "scopes"),
    [
        ([require_scopes("docs")], "read", ("docs",)),
        ([require_scopes("docs")], "write", ("docs", "docs.read", "docs.write")),
        ([require_scopes("a"), require_scopes("b")], "read", ("a", "b")),
        ([require_scopes("docs"), roles], "read", ()),
        ([roles], "write", ()),
        ([require_scopes("docs")], "administer", ()),
        ([require_scopes("docs")], "unknown", ()),
    ],
)
def test_what_the_server_declares_for_all_of_its_tools(
    checks: list[AuthCheck], tool: str, scopes: tuple[str, ...]
) -> None:
    mcp = server()
    for check in checks:
        mcp.add_middleware(AuthMiddleware(auth=check))
    assert requirement_of(mcp)("tools/call", {"name": tool}) == Requirement(scopes)


def test_other_methods_and_a_call_without_a_name() -> None:
    needed = requirement_of(server())
    assert needed("tools/list", {}) is None
    assert needed("prompts/get", {"name": "write"}) == ANY_TOKEN
    assert needed("tools/call", {}) == ANY_TOKEN


def test_a_tool_that_is_added_later_counts() -> None:
    mcp = server()
    needed = requirement_of(mcp)
    mcp.tool(lambda: "late", name="late", auth=require_scopes("docs.late"))
    assert needed("tools/call", {"name": "late"}) == Requirement(("docs.late",))


def test_what_else_is_required_is_required_too() -> None:
    def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
        if params.get("name") == "draft":
            return None
        return Requirement(("docs",), {"docs": frozenset({"all"})})

    needed = requirement_of(server(), requirement)
    assert needed("tools/call", {"name": "draft"}) == Requirement(("docs.draft",))
    both = Requirement(("docs", "docs.read", "docs.write"), {"docs": frozenset({"all"})})
    assert needed("tools/call", {"name": "write"}) == both
    assert needed("tools/call", {"name": "read"}) == requirement("", {})


def test_what_is_no_requirement_is_left_to_the_gate() -> None:
    needed = requirement_of(server(), lambda method, params: "docs")  # type: ignore[arg-type, return-value] # the mistake
    assert needed("tools/call", {"name": "write"}) == "docs"  # type: ignore[comparison-overlap] # the same


class Waits(Transform):
    """A transform that asks somebody else."""

    async def list_tools(self, tools: Sequence[Tool]) -> Sequence[Tool]:
        await anyio.lowlevel.checkpoint()
        return tools


@pytest.mark.anyio
async def test_a_transform_that_waits_leaves_it_to_fastmcp() -> None:
    mcp = server()
    mcp.local_provider.add_transform(Waits())
    assert requirement_of(mcp)("tools/call", {"name": "write"}) == ANY_TOKEN


class Counts(Transform):
    """A transform that counts how often tools are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0

    async def list_tools(self, tools: Sequence[Tool]) -> Sequence[Tool]:
        self.listings += 1
        return tools


def test_tools_are_looked_up_once_for_a_list_and_once_for_a_batch() -> None:
    """Of 1,000 tools, a lookup for each took a third of a second of the event loop."""
    mcp, counts = server(), Counts()
    mcp.local_provider.add_transform(counts)
    needed = requirement_of(mcp, with_mounted := requirement_of(server()))
    assert with_mounted("tools/call", {"name": "write"}) == needed("tools/call", {"name": "write"})
    assert counts.listings == 1
    names = ("read", "write", "publish", "draft")
    tools = [{"name": name} for name in names]
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()
    caller = Principal("https://idp", "ada", expire_time=0.0, scopes=("docs.draft",))
    lists = ListFilter(needed, every_response=False)
    kept = json.loads(lists.filtered(text, caller, has_hints=False))["result"]["tools"]
    assert kept == [{"name": "read"}, {"name": "draft"}]
    assert counts.listings == 2
    # What changes afterwards counts in the next list.
    mcp.tool(lambda: "read", name="read", auth=require_scopes("docs.read"))
    kept = json.loads(lists.filtered(text, caller, has_hints=False))["result"]["tools"]
    assert kept == [{"name": "draft"}]
    counts.listings = 0
    batch = [request("tools/call", {"name": name}) for name in names]
    scopes, _ = requirement_for(needed, batch)
    assert scopes is not None
    assert set(scopes.scopes) == {"docs.read", "docs.write", "docs.publish", "docs.draft"}
    assert counts.listings == 1


def test_fastmcp_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, mcp_adapter.fastmcp; print('fastmcp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.stdout == "False\n"


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="mcp is a FastMCP server, not Starlette"):
        requirement_of(server().http_app())  # type: ignore[arg-type] # the mistake
    with pytest.raises(TypeError, match="requirement"):
        requirement_of(server(), Requirement(("a",)))  # type: ignore[arg-type] # the mistake


@asynccontextmanager
async def calls_of(
    mcp: FastMCP[Any], requirement: RequirementOf
) -> AsyncIterator[Callable[..., Awaitable[httpx2.Response]]]:
    """Calls of tools over HTTP, by a caller with the scopes given."""
    resolver = FakeResolver()
    gate = SessionGate(
        mcp.http_app(stateless_http=True),
        resolver=resolver,
        resource=RESOURCE,
        requirement=requirement,
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, MemoryResolver(), Meeting())

        async def call(name: str, *scopes: str) -> httpx2.Response:
            token = resolver.issue("ada", scopes=scopes)
            return await endpoint.modern("tools/call", {"name": name, "arguments": {}}, token=token)

        yield call


@pytest.mark.anyio
async def test_a_call_without_the_scopes_is_403_with_the_scopes() -> None:
    mcp = server()
    async with calls_of(mcp, requirement_of(mcp, default_requirement)) as call:
        refused = await call("write", "docs.read")
        served = await call("write", "docs.read", "docs.write")

    assert refused.status_code == 403
    challenge = refused.headers["WWW-Authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="docs.read docs.write"' in challenge
    assert message_of(served)["result"]["content"][0]["text"] == "written"


@pytest.mark.anyio
@pytest.mark.parametrize("namespace", ["docs", None])
async def test_a_mounted_servers_tool_is_denied_by_fastmcp(namespace: str | None) -> None:
    """FastMCP shows nobody what it declares, so the gate lets the call pass."""
    mcp: FastMCP[Any] = FastMCP("parent")
    mcp.mount(server(), namespace=namespace)
    name = f"{namespace}_write" if namespace else "write"
    assert requirement_of(mcp)("tools/call", {"name": name}) == ANY_TOKEN
    async with calls_of(mcp, requirement_of(mcp)) as call:
        denied = message_of(await call(name, "docs.read"))
        served = message_of(await call(name, "docs.read", "docs.write"))
    assert "written" not in str(denied)
    assert "Unknown tool" in str(denied)
    assert served["result"]["content"][0]["text"] == "written"


@pytest.mark.anyio
async def test_a_mounted_server_is_asked_by_its_own_names() -> None:
    mcp, mounted = server(), server()
    mcp.mount(mounted, namespace="docs")
    of_mounted = requirement_of(mounted)

    def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
        name = str(params.get("name"))
        if method == "tools/call" and name.startswith("docs_"):
            return of_mounted(method, {"name": name.removeprefix("docs_")})
        return default_requirement(method, params)

    async with calls_of(mcp, requirement_of(mcp, requirement)) as call:
        refused = await call("docs_write", "docs.read")
        served = message_of(await call("docs_write", "docs.read", "docs.write"))
    assert refused.status_code == 403
    assert 'scope="docs.read docs.write"' in refused.headers["WWW-Authenticate"]
    assert served["result"]["content"][0]["text"] == "written"
