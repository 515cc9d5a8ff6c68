"""Tools as an MCP server: what is declared is what is listed, demanded and called."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent
from pydantic import BaseModel, Field, ValidationError

from authsvc.domain.resolution import Principal
from mcp_adapter import Requirement
from mcp_adapter.tools import Call, Toolset, tool
from mcp_adapter.tools.loading import OWN
from mcp_adapter.tools.s3 import S3Clients
from mcp_adapter.tools.settings import S3Settings
from tests.mcp_adapter.tools.calls import calling

pytestmark = pytest.mark.anyio


class Greeting(BaseModel):
    text: str


@tool(title="Greet", scopes=("b", "a"), read_only=False)
async def greet(
    call: Call, name: Annotated[str, Field(description="Whom.")], times: int = 1
) -> Greeting:
    """Greet somebody."""
    return Greeting(text=f"{call.principal.subject} greets {name} " * times)


def test_a_declaration_is_what_clients_see() -> None:
    listed = greet.listed
    assert (listed.name, listed.title, listed.description) == ("greet", "Greet", "Greet somebody.")
    assert listed.input_schema["properties"]["name"]["description"] == "Whom."
    assert listed.input_schema["required"] == ["name"]
    assert listed.input_schema["additionalProperties"] is False
    assert listed.output_schema is not None
    assert listed.output_schema["required"] == ["text"]
    assert listed.annotations is not None
    assert listed.annotations.read_only_hint is False
    assert listed.meta == {"authsvc/scopes": ["b", "a"], "authsvc/permissions": []}


async def test_a_bad_answer_is_not_blamed_on_the_arguments() -> None:
    @tool(title="Spoil")
    async def spoil(call: Call, size: int) -> Greeting:
        """Answer with what is no greeting."""
        return Greeting.model_validate({"text": size})

    s3 = S3Clients(endpoint_url=None, region="us-east-1")
    with pytest.raises(ValidationError, match="text"):
        await spoil.run(calling(Principal("idp", "alice", 0.0), s3), {"size": 7})


def test_a_function_that_is_no_tool_is_rejected_at_once() -> None:
    async def without_call(name: str) -> Greeting:
        """Greet."""
        return Greeting(text=name)

    async def without_docstring(call: Call) -> Greeting:
        return Greeting(text="")

    async def without_model(call: Call) -> str:
        """Greet."""
        return ""

    async def with_more(call: Call, *names: str) -> Greeting:
        """Greet."""
        return Greeting(text="")

    def blocking(call: Call) -> Greeting:
        """Greet."""
        return Greeting(text="")

    async def two_headers(
        call: Call,
        one: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Same"})],
        two: Annotated[str, Field(json_schema_extra={"x-mcp-header": "same"})],
    ) -> Greeting:
        """Greet."""
        return Greeting(text="")

    expected: dict[Any, str] = {
        without_call: "first parameter is a Call",
        without_docstring: "has a docstring",
        without_model: "returns a pydantic model",
        with_more: "plain and typed",
        blocking: "async function",
        two_headers: "duplicates",
    }
    for function, complaint in expected.items():
        with pytest.raises(TypeError, match=complaint):
            tool(title="Greet")(function)


def test_arguments_are_audited_that_a_tool_declares() -> None:
    async def hello(call: Call, name: str, secret: str) -> Greeting:
        """Greet."""
        return Greeting(text=name)

    tools = Toolset([greet, tool(title="Hello", audited_arguments=["name"])(hello)], S3Settings())
    assert tools.audited_arguments == {"greet": (), "hello": ("name",)}
    with pytest.raises(TypeError, match="hello: audited_arguments: it has no argument other"):
        tool(title="Hello", audited_arguments=["name", "other"])(hello)
    with pytest.raises(TypeError, match="audited_arguments"):
        tool(title="Hello", audited_arguments="name")(hello)


def test_the_adapters_tools_declare_names_of_objects_alone() -> None:
    """Neither what is written, nor what is searched for."""
    declared = {name for item in OWN for name in item.audited_arguments}
    assert declared == {"bucket", "key", "prefix"}
    assert all("bucket" in it.audited_arguments for it in OWN if it.name.startswith("bucket_"))


async def test_errors_of_arguments_do_not_repeat_their_text() -> None:
    call = calling(Principal("idp", "alice", 0.0), S3Clients(endpoint_url=None, region="r"))
    for given in ({"name\r\nx: \u202e": 1}, {"n" * 5000: 1}, {"name": "\ud800"}):
        result = await greet.run(call, given)
        assert result.is_error
        (content,) = result.content
        assert isinstance(content, TextContent)
        assert content.text.isprintable()
        assert content.text.isascii()
        assert len(content.text) < 400


def test_requirements_follow_from_declarations() -> None:
    tools = Toolset([greet], S3Settings())
    assert tools.scopes == ("a", "b")
    assert tools.requirement("tools/call", {"name": "greet"}) == Requirement(("b", "a"))
    assert tools.requirement("tools/list", {}) is None
    # What is not known is closed.
    unknown: list[dict[str, Any]] = [{"name": "other"}, {"name": ["greet"]}, {}]
    for params in unknown:
        assert tools.requirement("tools/call", params) == Requirement()


async def test_a_call_needs_every_declared_permission() -> None:
    called: list[str] = []

    @tool(title="Touch", permissions=("s3:GetObject", "s3:PutObject"))
    async def touch(call: Call) -> Greeting:
        """Touch it."""
        called.append(call.principal.subject)
        return Greeting(text="touched")

    def call_with(*permissions: str) -> Call:
        who = Principal("idp", "alice", 0.0, permissions=permissions)
        return calling(who, S3Clients(endpoint_url=None, region="us-east-1"))

    refused = await touch.run(call_with("s3:GetObject"), {})
    assert refused.is_error
    assert "s3:PutObject" in str(refused.content)
    assert called == []
    assert not (await touch.run(call_with("s3:PutObject", "s3:GetObject"), {})).is_error
    assert called == ["alice"]


async def test_listing_is_in_order_and_schemas_are_complete() -> None:
    async with Toolset.default(S3Settings()) as tools, Client(tools.server()) as client:
        listed = (await client.list_tools()).tools
    assert [item.name for item in listed] == [
        "discover_buckets",
        "bucket_objects_list",
        "bucket_objects_search",
        "bucket_object_info",
        "bucket_object_text",
        "bucket_object_link",
        "whoami",
    ]
    for item in listed:
        assert item.description
        assert item.output_schema
        assert item.annotations
    keys = listed[1].input_schema["properties"]["max_keys"]
    assert (keys["minimum"], keys["maximum"], keys["default"]) == (1, 1000, 100)


async def test_without_an_identity_nothing_is_called() -> None:
    # In process there is no HTTP request, as there would be none without a gate.
    async with Toolset.default(S3Settings()) as tools, Client(tools.server()) as client:
        with pytest.raises(MCPError, match="no identity"):
            await client.call_tool("discover_buckets", {})
