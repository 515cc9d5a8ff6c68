"""The decision table as an MCP client sees it: HTTP, the gate, gRPC and every store, row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from authsvc.client import AuthClient
from mcp_adapter.server.app import build_app
from mcp_adapter.server.config import Settings
from mcp_adapter.tools import Toolset
from mcp_adapter.tools.settings import S3Settings
from tests.mcp_adapter.harness import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import STORE_KINDS, serving, settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

LEGACY = "2025-11-25"
MODERN = "2026-07-28"


async def always() -> None:
    """Ready."""


@dataclass
class Server:
    """The adapter over a real authsvc, on a clock that stands."""

    http: httpx2.AsyncClient
    authsvc: AuthClient

    async def post(
        self, method: str, params: dict[str, object], *, session: str = "", token: str = ""
    ) -> httpx2.Response:
        headers = {
            "Accept": "application/json, text/event-stream",
            **({"MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": session} if session else {}),
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.http.post("/mcp", json=body, headers=headers)

    async def initialize(self, token: str = "") -> httpx2.Response:
        hello: dict[str, object] = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        return await self.post("initialize", hello, token=token)

    async def session(self, token: str = "") -> str:
        answer = await self.initialize(token)
        assert answer.status_code == 200, answer.text
        return answer.headers["mcp-session-id"]

    async def call(self, session: str, token: str = "") -> httpx2.Response:
        params: dict[str, object] = {"name": "discover_buckets", "arguments": {}}
        return await self.post("tools/call", params, session=session, token=token)

    async def modern_call(self, token: str = "") -> httpx2.Response:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "discover_buckets", "arguments": {}, "_meta": meta}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "discover_buckets",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return await self.http.post("/mcp", json=body, headers=headers)


def buckets(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    found = answer.json()["result"]["structuredContent"]["buckets"]
    return [bucket["name"] for bucket in found]


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"].get("data", {}).get("reason", "")


@pytest.fixture(params=STORE_KINDS)
async def server(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> AsyncIterator[Server]:
    settings = Settings(resource=RESOURCE, authorization_servers=(ISSUER,))
    async with (
        serving(settings_for(tmp_path, idp, request.param), clock) as service,
        Toolset.default(S3Settings()) as tools,
    ):
        app = build_app(
            settings,
            tools.server(),
            resolver=service.client,
            ready=always,
            requirement=tools.requirement,
            scopes=tools.scopes,
        )
        async with (
            running(app) as url,
            httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as http,
        ):
            yield Server(http, service.client)


async def test_row_1(server: Server) -> None:
    answer = await server.initialize()
    assert answer.status_code == 200
    assert len(answer.headers["mcp-session-id"]) >= 22


async def test_row_2(server: Server, idp: IdentityProvider) -> None:
    token = idp.token()
    assert buckets(await server.call(await server.session(token), token)) == ["alpha", "beta"]


async def test_row_3(server: Server, idp: IdentityProvider) -> None:
    answer = await server.initialize(idp.forged())
    assert refusal(answer) == (401, "TOKEN_SIGNATURE_INVALID")
    assert "mcp-session-id" not in answer.headers


async def test_row_4(server: Server, idp: IdentityProvider) -> None:
    for token in ("", idp.token(), idp.forged()):
        assert refusal(await server.call("unknown", token)) == (404, "SESSION_NOT_FOUND")


async def test_row_5(server: Server) -> None:
    session = await server.session()
    for _ in range(2):
        answer = await server.post("tools/list", {}, session=session)
        assert answer.status_code == 200


async def test_row_6(server: Server, idp: IdentityProvider) -> None:
    session = await server.session()
    assert buckets(await server.call(session, idp.token())) == ["alpha", "beta"]


async def test_row_7(server: Server, idp: IdentityProvider) -> None:
    good = idp.token()
    session = await server.session(good)
    for bad in ("rubbish", idp.forged(), idp.token(ttl_seconds=-60), idp.token(aud="https://x.y")):
        answer = await server.call(session, bad)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        # Refused for what is open to everyone, too.
        assert (await server.post("ping", {}, session=session, token=bad)).status_code == 401
    assert buckets(await server.call(session, good)) == ["alpha", "beta"]


async def test_row_8(server: Server, idp: IdentityProvider) -> None:
    token = idp.token()
    session = await server.session(token)
    first, second = await server.call(session, token), await server.call(session, token)
    assert buckets(first) == buckets(second)


async def test_row_9(server: Server, idp: IdentityProvider, clock: Clock) -> None:
    token = idp.token(ttl_seconds=60)
    session = await server.session(token)
    clock.advance(90)
    assert refusal(await server.call(session, token)) == (401, "TOKEN_EXPIRED")
    assert buckets(await server.call(session, idp.token())) == ["alpha", "beta"]


async def test_rows_10_and_11(server: Server, idp: IdentityProvider, clock: Clock) -> None:
    a = idp.token()
    session = await server.session(a)
    clock.advance(1)
    b = idp.token(roles=["analyst"], buckets=["gamma"])
    assert buckets(await server.call(session, b)) == ["gamma"]
    assert buckets(await server.call(session, a)) == ["alpha", "beta"]
    assert buckets(await server.call(session, b)) == ["gamma"]


async def test_row_12(server: Server, idp: IdentityProvider) -> None:
    owner = idp.token()
    session = await server.session(owner)
    stranger = await server.call(session, idp.token("mallory"))
    unknown = await server.call("unknown", owner)
    assert refusal(stranger) == (404, "SESSION_NOT_FOUND")
    assert stranger.content == unknown.content
    assert buckets(await server.call(session, owner)) == ["alpha", "beta"]


async def test_row_13(server: Server, idp: IdentityProvider) -> None:
    token = idp.token()
    session = await server.session(token)
    answer = await server.call(session)
    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]
    assert "alpha" not in answer.text
    assert buckets(await server.call(session, token)) == ["alpha", "beta"]


async def test_row_14(server: Server, idp: IdentityProvider) -> None:
    token = idp.token()
    session = await server.session(token)
    await server.authsvc.revoke(session)
    for presented in ("", token):
        assert refusal(await server.call(session, presented)) == (404, "SESSION_NOT_FOUND")


async def test_row_15(server: Server, idp: IdentityProvider, clock: Clock) -> None:
    session = await server.session()
    clock.advance(3600)
    assert refusal(await server.call(session, idp.token())) == (404, "SESSION_NOT_FOUND")


async def test_row_16(server: Server) -> None:
    answer = await server.modern_call()
    assert answer.status_code == 401
    assert "error=" not in answer.headers["www-authenticate"]


async def test_row_17(server: Server, idp: IdentityProvider, clock: Clock) -> None:
    a = idp.token()
    assert buckets(await server.modern_call(a)) == ["alpha", "beta"]
    clock.advance(1)
    b = idp.token(buckets=["gamma"])
    assert buckets(await server.modern_call(b)) == ["gamma"]
    assert buckets(await server.modern_call(a)) == ["alpha", "beta"]
    assert refusal(await server.modern_call(idp.forged())) == (401, "TOKEN_SIGNATURE_INVALID")
