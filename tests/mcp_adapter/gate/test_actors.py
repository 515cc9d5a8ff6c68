"""Behind the gate, each request has the actor of its own token."""

from __future__ import annotations

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_adapter import SessionGate, caller
from mcp_adapter.testing import InMemoryAuthsvc
from tests.mcp_adapter.harness import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

RESOURCE = "https://mcp.example/mcp"
MODERN = "2026-07-28"


async def described(request: Request) -> Response:
    actor = caller(request).actor
    return JSONResponse([it.subject for it in actor.chain()] if actor else [])


def call(version: str) -> dict[str, object]:
    meta = {"io.modelcontextprotocol/protocolVersion": version}
    params = {"name": "whoami", "arguments": {}, **({"_meta": meta} if version == MODERN else {})}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_actors_alternate_on_one_session(version: str, clock: Clock) -> None:
    authsvc = InMemoryAuthsvc(RESOURCE, clock=clock)
    app = Starlette(routes=[Route("/mcp", described, methods=["POST"])])
    gate = SessionGate(
        app, resource=RESOURCE, authorization_servers=["https://idp.example"], resolver=authsvc
    )
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as http,
    ):
        acts: list[dict[str, object] | None] = [
            None,
            {"sub": "agent"},
            {"sub": "other", "act": {"sub": "agent"}},
        ]
        tokens = {}
        for act in acts:
            clock.advance(1)
            tokens[authsvc.token("ada", act=act)] = act
        created = await authsvc.create(next(iter(tokens)), resource=RESOURCE)
        assert created.session is not None

        async def answer(token: str) -> httpx2.Response:
            headers = {
                "Accept": "application/json, text/event-stream",
                "Authorization": f"Bearer {token}",
                "MCP-Protocol-Version": version,
            }
            if version == MODERN:
                headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "whoami"}
            else:
                headers["Mcp-Session-Id"] = created.session.id if created.session else ""
            return await http.post("/mcp", json=call(version), headers=headers)

        chains = [[], ["agent"], ["other", "agent"]]
        for _ in range(3):
            assert [(await answer(token)).json() for token in tokens] == chains
        rejected = await answer(authsvc.token("ada", act={"sub": 7}))
        assert rejected.status_code == 401
        assert rejected.json()["error"]["data"]["reason"] == "TOKEN_MALFORMED"
