"""The example with a second API: real processes, and an OAuth server and an API of the test's."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import jwt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.development import mint_token
from examples import call
from tests.examples.program import Program
from tests.mcp_adapter.harness import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT, spawn

pytestmark = pytest.mark.anyio

EXAMPLE = ROOT / "examples" / "second_api"
RESOURCE = "http://127.0.0.1:8012/mcp"


@dataclass
class SecondApi:
    """The API and its OAuth server, which trusts the tokens of the first one.

    Attributes:
        secret: of the first OAuth server.
        client_secret: of authsvc, its client.
        exchanged: the subjects whose tokens were exchanged.
        subjects: by the API's token, whose it is.
        seen: what the API was sent as Authorization.
    """

    secret: str
    client_secret: str
    exchanged: list[str] = field(default_factory=list)
    subjects: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    async def token(self, request: Request) -> Response:
        """RFC 8693 section 2."""
        basic = b64encode(f"authsvc:{self.client_secret}".encode()).decode()
        form = await request.form()
        if request.headers["authorization"] != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        assert form["audience"] == "notes-api"
        subject_token = str(form["subject_token"])
        claims = jwt.decode(subject_token, self.secret, algorithms=["HS256"], audience=RESOURCE)
        if claims["sub"] == "eve":
            return JSONResponse({"error": "access_denied"}, status_code=400)
        self.exchanged.append(claims["sub"])
        issued = f"notes-token-{token_hex(8)}"
        self.subjects[issued] = claims["sub"]
        return JSONResponse(
            {
                "access_token": issued,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 300,
            }
        )

    async def notes(self, request: Request) -> Response:
        given = request.headers.get("authorization", "")
        self.seen.append(given)
        subject = self.subjects.get(given.removeprefix("Bearer "))
        if subject is None:
            return JSONResponse({"error": "invalid_token"}, status_code=401)
        return JSONResponse([f"a note of {subject}"])


@dataclass
class Running:
    url: str
    config: Path
    api: SecondApi

    async def called(self, tool: str, subject: str, *, roles: tuple[str, ...] = ("reader",)) -> str:
        """What examples/call.py prints of a call with a token."""
        claims = {"sub": subject, "aud": RESOURCE, "roles": list(roles)}
        value = mint_token(load(Settings, self.config), claims, ttl_seconds=600, now=time.time())
        printed = io.StringIO()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with redirect_stdout(printed):
                await call.main(f"{self.url}/mcp", tool, value)
        assert value not in printed.getvalue()
        return printed.getvalue().splitlines()[-1]


@pytest.fixture
async def example(tmp_path: Path) -> AsyncIterator[Running]:
    api = SecondApi(token_hex(32), token_hex(16))
    (tmp_path / "secret").write_text(api.secret)
    (tmp_path / "client_secret").write_text(api.client_secret)
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "client_secret").chmod(0o600)
    oauth = Starlette(routes=[Route("/token", api.token, methods=["POST"])])
    served = Starlette(routes=[Route("/v1/notes", api.notes)])
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(running(oauth))
        api_url = await stack.enter_async_context(running(served))
        config = tmp_path / "authsvc.toml"
        text = (EXAMPLE / "authsvc.toml").read_text()
        text = text.replace(":50051", ":0").replace("var/second_api", str(tmp_path))
        config.write_text(text.replace("http://127.0.0.1:8101", endpoint))
        authsvc = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        address = await asyncio.to_thread(authsvc.wait_for, "listening on", TIMEOUT_SECONDS)
        environment = {
            "AUTHSVC": str(address["address"]),
            "PORT": "0",
            "NOTES_API": f"{api_url}/v1",
        }
        program = Program([sys.executable, "-W", "error", EXAMPLE / "server.py"], environment)
        stack.callback(program.end)
        found = await asyncio.to_thread(program.wait_for, r"[Rr]unning on (http://\S+)")
        yield Running(found[1], config, api)


async def test_a_tool_calls_the_second_api_as_its_caller(example: Running) -> None:
    assert await example.called("whoami", "ada") == "ada"
    assert example.api.exchanged == []  # no tool has asked

    assert await example.called("notes", "ada") == "a note of ada"
    assert await example.called("notes", "bob") == "a note of bob"
    assert example.api.exchanged == ["ada", "bob"]
    assert {it.partition("-token-")[0] for it in example.api.seen} == {"Bearer notes"}

    refused = await example.called("notes", "eve")
    assert "No credentials are issued for this principal." in refused
    assert await example.called("whoami", "eve") == "eve"
    assert "Your token does not come with access" in await example.called(
        "notes", "ada", roles=("visitor",)
    )


def test_the_example_is_short() -> None:
    assert len((EXAMPLE / "server.py").read_text().splitlines()) < 60
