"""The example package, loaded as settings name it and called by the official client."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authsvc.domain.resolution import BearerCredentials, Secret
from mcp_adapter.tools.loading import selected
from mcp_adapter.tools.settings import ToolsSettings
from tests.mcp_adapter.harness import DEADLINE_SECONDS, running
from tests.mcp_adapter.tools.calls import credentials
from tests.mcp_adapter.tools.served import ERAS, Served, served, somebody
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[3] / "examples" / "weather_tools"
DAYS = [{"date": "2026-12-01", "celsius": -4.5, "summary": "snow"}]
WRITES = "weather_station_rename"


@dataclass
class WeatherApi:
    """Answers requests with a token that it knows.

    Attributes:
        url: where it is.
        labels: of stations, as they were set.
    """

    url: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    async def forecast(self, request: Request) -> Response:
        if request.headers["authorization"] != "Bearer issued-for-alice":
            return Response(status_code=403)
        return JSONResponse(DAYS)

    async def label(self, request: Request) -> Response:
        self.labels[request.path_params["station"]] = (await request.json())["label"]
        return Response(status_code=204)


@pytest.fixture
async def api() -> AsyncIterator[WeatherApi]:
    api = WeatherApi()
    routes = [
        Route("/stations/{station}/forecast", api.forecast),
        Route("/stations/{station}/label", api.label, methods=["PUT"]),
    ]
    async with running(Starlette(routes=routes)) as api.url:
        yield api


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example, as if it were installed."""
    monkeypatch.syspath_prepend(EXAMPLE)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("weather_tools", None)


@pytest.fixture
async def server(
    api: WeatherApi, importable: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    """The adapter with the example beside its own tools."""
    monkeypatch.setenv("WEATHER_API_URL", api.url)
    tools = selected(ToolsSettings(packages=("weather_tools",), writes=(WRITES,)))
    async with served(tools, "http://127.0.0.1:9") as running_server:
        resolver = running_server.resolver
        for name, scopes in {"alice": ("weather.read", "weather.write"), "bob": ()}.items():
            permissions = ("weather:RenameStation",)
            resolver.tokens[name] = somebody(name, scopes=scopes, permissions=permissions)
            issued = Secret(f"issued-for-{name}")
            resolver.issued[name] = BearerCredentials(issued, "Bearer", 2e9)
        yield running_server


@pytest.mark.parametrize("era", ERAS)
async def test_it_calls_its_api_as_the_caller(server: Served, api: WeatherApi, era: str) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era) as client:
            forecast = await client.call_tool("weather_forecast", {"station": "oslo-1"})
            renamed = await client.call_tool(WRITES, {"station": "oslo-1", "label": "Oslø"})

    assert forecast.structured_content == {"station": "oslo-1", "asked_by": "alice", "days": DAYS}
    assert not renamed.is_error
    assert api.labels == {"oslo-1": "Oslø"}


@pytest.mark.parametrize("era", ERAS)
async def test_the_challenge_and_the_listing_follow_from_the_declaration(
    server: Served, era: str
) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era, "bob") as client:
            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
            with pytest.raises(MCPError) as caught:
                await client.call_tool("weather_forecast", {"station": "oslo-1"})
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        metadata = await http.get(f"{server.url}/.well-known/oauth-protected-resource")

    assert caught.value.error.data == {"reason": "INSUFFICIENT_SCOPE"}
    assert {"weather.read", "weather.write"} <= set(metadata.json()["scopes_supported"])
    rename = listed[WRITES]
    assert rename.meta == {
        "authsvc/scopes": ["weather.write"],
        "authsvc/permissions": ["weather:RenameStation"],
    }
    assert rename.annotations is not None
    assert (rename.annotations.read_only_hint, rename.annotations.destructive_hint) == (False, True)
    assert listed["weather_forecast"].input_schema["properties"]["days"]["maximum"] == 14


async def test_a_caller_without_its_kind_of_credentials_gets_an_error(server: Served) -> None:
    server.resolver.issued["alice"] = credentials()
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client("legacy") as client:
            answer = await client.call_tool("weather_forecast", {"station": "oslo-1"})
    assert answer.is_error
    assert "access token for this API" in str(answer.content)


async def test_a_tool_that_changes_something_is_off_until_it_is_named(importable: None) -> None:
    names = {tool.name for tool in selected(ToolsSettings(packages=("weather_tools",)))}
    assert "weather_forecast" in names
    assert WRITES not in names
