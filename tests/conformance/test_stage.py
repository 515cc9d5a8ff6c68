"""What the suite runs against: open to all, or closed but for the proxy's token."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from mcp import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from conformance.proxy import AuthorizingProxy
from conformance.stage import ANONYMOUS, WITH_TOKEN, stage
from conformance.tools import TOOLS
from tests.mcp_adapter.harness import DEADLINE_SECONDS, call, initialize, running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("configuration", [ANONYMOUS, WITH_TOKEN])
async def test_the_tools_of_the_suite_are_served(configuration: str) -> None:
    async with stage(configuration) as url, Client(url) as client:
        listed = await client.list_tools()
        answer = await client.call_tool("test_simple_text", {})

    assert [tool.name for tool in listed.tools] == list(TOOLS)
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "This is a simple text response for testing."


@pytest.mark.parametrize("configuration", [ANONYMOUS, WITH_TOKEN])
async def test_who_brings_a_token_of_their_own(configuration: str) -> None:
    """The adapter refuses a bad token, even where none is needed; the proxy replaces it."""
    headers = {
        "Authorization": "Bearer nonsense",
        "Accept": "application/json, text/event-stream",
    }
    async with (
        stage(configuration) as url,
        httpx2.AsyncClient(timeout=DEADLINE_SECONDS) as http,
    ):
        response = await http.post(url, json=initialize(), headers=headers)

    assert response.status_code == (401 if configuration == ANONYMOUS else 200)


async def echo(request: Request) -> Response:
    headers = [[name.decode(), value.decode()] for name, value in request.headers.raw]
    body = (await request.body()).decode()
    answer = {"headers": headers, "body": body, "method": request.method, "url": str(request.url)}
    return JSONResponse(answer, 418, {"X-Answer": "yes"})


@asynccontextmanager
async def proxied(app: Starlette, tokens: Iterator[str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a proxy in front of ``app``."""
    async with (
        running(app) as upstream,
        httpx2.AsyncClient(timeout=DEADLINE_SECONDS) as http,
        running(WithLifespan(AuthorizingProxy(http, upstream, lambda: next(tokens)))) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as client,
    ):
        yield client


class WithLifespan:
    """Answers the lifespan that the harness demands of an app."""

    def __init__(self, app: AuthorizingProxy) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


async def test_the_proxy_changes_the_token_and_nothing_else() -> None:
    app = Starlette(routes=[Route("/mcp", echo, methods=["POST", "DELETE"])])
    headers = {"Host": "evil.example", "Authorization": "Bearer mine", "Mcp-Name": "x"}
    async with proxied(app, iter(["one", "two"])) as client:
        first = await client.post("/mcp", json=call("x"), headers=headers)
        second = await client.delete("/mcp?a=b%20c", headers=headers)

    assert (first.status_code, first.headers["x-answer"]) == (418, "yes")
    seen = first.json()
    assert (seen["method"], json.loads(seen["body"])) == ("POST", call("x"))
    assert ["host", "evil.example"] in seen["headers"]
    assert ["mcp-name", "x"] in seen["headers"]
    presented = [
        [value for name, value in answer.json()["headers"] if name == "authorization"]
        for answer in (first, second)
    ]
    assert presented == [["Bearer one"], ["Bearer two"]]
    assert second.json()["method"] == "DELETE"
    assert second.json()["url"] == "http://evil.example/mcp?a=b%20c"


async def test_a_stream_passes_as_it_comes_and_ends_with_its_reader() -> None:
    gone = anyio.Event()

    async def endless(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"data: first\n\n"
                await anyio.sleep_forever()
            finally:
                gone.set()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/mcp", endless, methods=["POST"])])
    with anyio.fail_after(DEADLINE_SECONDS):
        async with proxied(app, iter(["one"])) as client:
            async with client.stream("POST", "/mcp", json={}) as response:
                chunk = await anext(response.aiter_raw())
            await gone.wait()

    assert chunk == b"data: first\n\n"
