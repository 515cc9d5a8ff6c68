"""Real MCP clients, in both eras, through Envoy to real MCP servers, which know who is asking."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from examples.call import Token
from tests.gateways.configured import ASSERTING, WRITING
from tests.gateways.harness import KINDS, Gateway, serving
from tests.mcp_adapter.harness import LEGACY, MODERN, call, opened
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.node import run_node

pytestmark = pytest.mark.anyio

NO_TOKEN = "This request needs an access token."
NO_SCOPE = "The token lacks a scope that this request needs."


@pytest.fixture(scope="module", params=KINDS)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One whose sessions are the upstream's, or authsvc's where it keeps none."""
    folder = tmp_path_factory.mktemp(request.param)
    adopts = request.param.endswith("-stateful")
    with serving(request.param, folder, adopt_sessions=adopts) as running:
        yield running


async def called(client: Client, tool: str) -> Any:  # noqa: ANN401 - JSON
    """What a tool returns."""
    (content,) = (await client.call_tool(tool)).content
    assert isinstance(content, types.TextContent)
    return json.loads(content.text)


async def refused(client: Client, tool: str) -> str:
    """The message of a call that is refused."""
    with pytest.raises(MCPError) as caught:
        await client.call_tool(tool)
    return caught.value.error.message


@pytest.mark.parametrize(("mode", "version"), [("legacy", LEGACY), ("auto", MODERN)])
async def test_the_clients_of_python(gateway: Gateway, mode: str, version: str) -> None:
    """Connect without a token, call with one, switch the role, get a further scope."""
    token, began = Token(), time.time()
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with (
            httpx2.AsyncClient(auth=token, timeout=TIMEOUT_SECONDS) as http,
            Client(streamable_http_client(gateway.resource, http_client=http), mode=mode) as client,
        ):
            if not serves_one_era(gateway):
                assert client.protocol_version == version
            assert "whoami" in {tool.name for tool in (await client.list_tools()).tools}
            assert await refused(client, "whoami") == NO_TOKEN

            token.value = gateway.token(iat=began)
            claims = await called(client, "whoami")
            assert (claims["sub"], claims["roles"]) == ("alice", ["reader"])
            assert (claims["iss"], claims["aud"]) == (ASSERTING, gateway.resource)
            assert claims["idp"] == gateway.idp.issuer
            assert claims["client_id"] == "client"
            assert claims["scope"] == "buckets.read objects.read"
            assert await refused(client, "write") == NO_SCOPE

            token.value = gateway.token(role="analyst", iat=began + 1, scope=WRITING)
            assert (await called(client, "whoami"))["roles"] == ["analyst"]
            assert await called(client, "write") == "written"

            names = {name.lower() for name, _ in await called(client, "headers")}
            assert "x-authsvc-assertion" in names
            assert not names & {"authorization", "x-authsvc-credentials"}
            token.value = ""
            assert await refused(client, "whoami") == NO_TOKEN


def serves_one_era(gateway: Gateway) -> bool:
    """Whether the upstream knows no revision without sessions."""
    return gateway.kind == "typescript-stateful"


@pytest.mark.parametrize(("sdk", "mode"), [("v1", "legacy"), ("v2", "auto")])
async def test_the_clients_of_typescript(gateway: Gateway, sdk: str, mode: str) -> None:
    now = time.time()
    tokens = gateway.token("dora", iat=now), gateway.token("dora", "analyst", iat=now + 1)

    answer = await run_node("whoami.mjs", sdk, mode, gateway.resource, *tokens)

    refusal, *said = answer["said"]
    assert NO_TOKEN in refusal
    assert [claims["sub"] for claims in map(json.loads, said)] == ["dora", "dora"]
    assert [claims["roles"] for claims in map(json.loads, said)] == [["reader"], ["analyst"]]
    assert bool(answer["session"]) == (mode == "legacy" or serves_one_era(gateway))


async def test_what_streams_arrives_before_the_end(gateway: Gateway) -> None:
    """The call that is held ends because its progress has arrived."""
    token = gateway.token()
    async with gateway.client() as client:
        session = await opened(client, token)
        headers = {
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {token}",
            "MCP-Protocol-Version": LEGACY,
            "Mcp-Session-Id": session,
        }
        held = call("hold", _meta={"progressToken": "t"})
        async with client.http.stream("POST", "/mcp", json=held, headers=headers) as answer:
            assert answer.status_code == 200
            messages = events(answer)
            assert (await anext(messages))["method"] == "notifications/progress"
            release = await client.post(call("release", 8), session=session, token=token)
            assert release.status_code == 200
            last = await anext(messages)
    assert last["result"]["content"][0]["text"] == json.dumps("held")


async def events(answer: httpx2.Response) -> Any:  # noqa: ANN401 - an iterator of JSON
    """The messages of a stream, as they come."""
    async for line in answer.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))
