"""Tools of one's own, in one file: the weather, from an API that wants an access token.

Settings name the module, and the adapter serves its tools beside its own:

    [tools]
    packages = ["weather_tools"]
    writes = ["weather_station_rename"]

The token for the API is issued by authsvc in exchange for the caller's (RFC 8693). The caller's own
goes no further than the adapter's gate.
"""

from __future__ import annotations

import os
from datetime import date
from typing import Annotated, Any
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, Field, TypeAdapter

from mcp_adapter.tools import Call, ToolError, tool

API_URL = os.environ.get("WEATHER_API_URL", "https://weather.example")
TIMEOUT_SECONDS = 10.0

StationArgument = Annotated[
    str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="A station's name, such as oslo-1.")
]


class Day(BaseModel):
    """The weather on one day."""

    date: date
    celsius: float
    summary: str


class Forecast(BaseModel):
    """The weather to come, day by day."""

    station: str
    asked_by: str = Field(description="Whose token the forecast was made for.")
    days: list[Day]


class Station(BaseModel):
    """A weather station."""

    station: str
    label: str


@tool(title="Weather forecast", scopes=("weather.read",), open_world=True)
async def weather_forecast(
    call: Call,
    station: StationArgument,
    days: Annotated[int, Field(ge=1, le=14, description="How far to look ahead.")] = 3,
) -> Forecast:
    """Forecast the weather at a station."""
    answer = await _ask(call, "GET", f"/stations/{quote(station)}/forecast?days={days}")
    return Forecast(
        station=station,
        asked_by=call.principal.subject,
        days=TypeAdapter(list[Day]).validate_python(answer),
    )


@tool(
    title="Rename a weather station",
    scopes=("weather.write",),
    permissions=("weather:RenameStation",),
    read_only=False,
    open_world=True,
)
async def weather_station_rename(
    call: Call,
    station: StationArgument,
    label: Annotated[str, Field(min_length=1, max_length=100, description="What people read.")],
) -> Station:
    """Give a station another label."""
    await _ask(call, "PUT", f"/stations/{quote(station)}/label", {"label": label})
    return Station(station=station, label=label)


async def _ask(call: Call, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Send a request as the caller: with the token that was issued for this call."""
    issued = await call.bearer_credentials()
    headers = {"Authorization": f"{issued.token_type} {issued.access_token.reveal()}"}
    # trust_env=False: a proxy of the environment would see the token, where the API has no TLS.
    async with httpx2.AsyncClient(
        base_url=API_URL, timeout=TIMEOUT_SECONDS, trust_env=False
    ) as http:
        try:
            answer = await http.request(method, path, headers=headers, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None
        except httpx2.HTTPStatusError as error:
            raise ToolError(f"The weather API answered {error.response.status_code}.") from None
        except (httpx2.HTTPError, ValueError) as error:
            raise ToolError(
                f"The weather API gave no valid answer: {type(error).__name__}."
            ) from None
