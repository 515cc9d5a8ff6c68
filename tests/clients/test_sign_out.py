"""Signing out at the provider ends access everywhere: the whole chain, with a certified provider
that reports it (OpenID Connect Back-Channel Logout 1.0) to one of two replicas."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.clients.sign_out import REVOKED, Chain, Deployment, after, chain_of, deployed
from tests.mcp_adapter.harness import LEGACY, MODERN, Endpoint, call, running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.node import run_node
from tests.support.oidc_provider import BY_SUBJECT, WITH_SID, WITHOUT_SID, Browser, Grant

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("sign-out")) as running:
        yield running


@pytest.fixture
async def chain(deployment: Deployment) -> AsyncIterator[Chain]:
    async with chain_of(deployment) as ways:
        yield ways


@pytest.fixture
async def browser(deployment: Deployment) -> AsyncIterator[Browser]:
    async with deployment.provider.browser() as one:
        yield one


@pytest.fixture
async def other_browser(deployment: Deployment) -> AsyncIterator[Browser]:
    async with deployment.provider.browser() as another:
        yield another


async def log_in(chain: Chain, browser: Browser, client: str, subject: str) -> Grant:
    return await browser.log_in(client, subject, resource=chain.deployment.resource)


@pytest.mark.parametrize(
    ("client", "other_session_ends"), [(WITH_SID, False), (WITHOUT_SID, True), (BY_SUBJECT, True)]
)
async def test_it_ends_the_session_everywhere(
    chain: Chain, browser: Browser, other_browser: Browser, client: str, other_session_ends: bool
) -> None:
    """And the user's other sessions where tokens do not say which of them they are of."""
    user = f"alice-{client}"
    here = await chain.connected((await log_in(chain, browser, client, user)).access)
    there = await chain.connected((await log_in(chain, other_browser, client, user)).access)
    async with chain.deployment.provider.browser() as bobs:
        bob = await chain.connected((await log_in(chain, bobs, client, f"bob-{client}")).access)

    await browser.sign_out()

    # What has been acknowledged is obeyed by the replica that has acknowledged it.
    at_once = await here.rejected()
    assert {name for name in here.ways if name.startswith("first")} <= at_once.keys()
    await here.check_ended()
    if other_session_ends:
        await there.check_ended()
    else:
        assert await there.rejected() == {}
    assert await bob.rejected() == {}

    # A token of a later login is accepted, on the old sessions too; the old one stays rejected.
    await after(time.time())
    again = await log_in(chain, browser, client, user)
    assert await here.rejected(again.access) == {}
    await chain.connected(again.access)
    await here.check_ended()
    assert await bob.rejected() == {}


@asynccontextmanager
async def streaming(
    chain: Chain, method: str, session: str, token: str, body: object = None
) -> AsyncIterator[httpx2.Response]:
    headers = {
        "Accept": "application/json, text/event-stream" if body else "text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": LEGACY,
        "Mcp-Session-Id": session,
    }
    http = chain.stateful.http
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with http.stream(method, "/mcp", json=body, headers=headers) as response:
            assert response.status_code == 200
            yield response


async def test_open_streams_end(chain: Chain, browser: Browser, other_browser: Browser) -> None:
    here = await chain.connected((await log_in(chain, browser, WITH_SID, "grace")).access)
    there = await chain.connected((await log_in(chain, other_browser, WITH_SID, "grace")).access)
    held = call("hold", "held", _meta={"progressToken": 1})
    async with (
        streaming(chain, "GET", here.session, here.token) as listening,
        streaming(chain, "POST", here.session, here.token, held) as calling,
        streaming(chain, "POST", there.session, there.token, held) as going_on,
    ):
        lines, others = calling.aiter_lines(), going_on.aiter_lines()
        for each in (lines, others):
            while "notifications/progress" not in await anext(each):
                pass

        await browser.sign_out()

        last = [json.loads(line[5:]) async for line in lines if line.startswith("data: {")][-1]
        assert last["error"]["data"] == {"reason": REVOKED}
        assert [line async for line in listening.aiter_lines() if line.startswith("data: {")] == []
        # The user's other session goes on.
        assert await there.rejected() == {}
        chain.released.set()
        assert '"text":"released"' in "".join([line async for line in others])


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_the_official_client_gets_no_further(
    chain: Chain, browser: Browser, mode: str
) -> None:
    grant = await log_in(chain, browser, WITH_SID, f"joan-{mode}")
    endpoint = chain.stateful if mode == "legacy" else chain.stateless
    headers = {"Authorization": f"Bearer {grant.access}"}
    async with httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_SECONDS) as http:
        transport = streamable_http_client(_mcp(endpoint), http_client=http)
        with anyio.fail_after(TIMEOUT_SECONDS):
            async with Client(transport, mode=mode) as client:
                before = await client.call_tool("whoami", {})
                assert before.structured_content == {"result": f"joan-{mode}"}
                await signed_out(chain, browser, grant)
                with pytest.raises(MCPError):
                    await client.call_tool("whoami", {})


def _mcp(endpoint: Endpoint) -> str:
    return str(endpoint.http.base_url).rstrip("/") + "/mcp"


async def signed_out(chain: Chain, browser: Browser, grant: Grant) -> None:
    """Sign out, and return once every replica knows."""
    connected = await chain.connected(grant.access)
    await browser.sign_out()
    await connected.check_ended()


@pytest.mark.parametrize(("sdk", "mode"), [("v1", "legacy"), ("v2", "legacy"), ("v2", MODERN)])
async def test_clients_in_typescript_get_no_further(
    chain: Chain, browser: Browser, sdk: str, mode: str
) -> None:
    subject = f"mary-{sdk}-{mode}"
    grant = await log_in(chain, browser, WITH_SID, subject)

    async def sign_out(request: Request) -> Response:
        await signed_out(chain, browser, grant)
        return Response()

    app = Starlette(routes=[Route("/", sign_out, methods=["POST"])])
    endpoint = chain.stateful if mode == "legacy" else chain.stateless
    url = _mcp(endpoint)
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with running(app) as trigger:
            told = await run_node("signed_out.mjs", sdk, mode, url, grant.access, f"{trigger}/")
    assert told == {"before": subject, "failed": True, "status": 401}


@pytest.mark.parametrize("scope", ["openid buckets.read", "openid offline_access buckets.read"])
async def test_a_refresh_after_it_is_the_providers_decision(
    chain: Chain, browser: Browser, scope: str
) -> None:
    """A provider revokes refresh tokens, those for offline access excepted (section 2.7): what it
    issues later is accepted."""
    resource = chain.deployment.resource
    grant = await browser.log_in(WITH_SID, "ken", resource=resource, scope=scope)
    before = await chain.connected(grant.access)
    await browser.sign_out()
    await before.check_ended()

    await after(time.time())
    if "offline_access" not in scope:
        assert not grant.refresh or await is_refused(chain, grant)
        return
    refreshed = await chain.deployment.provider.refresh(grant, resource=resource)
    await chain.connected(refreshed.access)
    await before.check_ended()


async def is_refused(chain: Chain, grant: Grant) -> bool:
    try:
        await chain.deployment.provider.refresh(grant, resource=chain.deployment.resource)
    except AssertionError as error:
        return "invalid_grant" in str(error)
    return False
