"""The reference server as a whole: its paths, its metadata, its health, over real HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth.metadata import metadata_url
from mcp_adapter import SessionGate
from mcp_adapter.server.app import build_app
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    RESOURCE,
    SCOPES,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_app,
    demo_requirement,
    demo_server,
    initialize,
    principal,
    request,
    running,
    said,
    settings,
)
from tests.support.audited import Collected
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

WELL_KNOWN = "/.well-known/oauth-protected-resource"


async def test_calls_are_audited_with_the_address_that_a_proxy_reports(
    resolver: MemoryResolver,
) -> None:
    audit = Collected()
    proxies = {"trusted_proxies": ("127.0.0.0/8",), "client_address_header": "x-real-ip"}
    app = build_app(
        settings(**proxies),
        demo_server(Meeting()),
        resolver=resolver,
        ready=resolver.ready,
        requirement=demo_requirement,
        scopes=SCOPES,
        audit=audit,
    )
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        headers = {"X-Real-IP": "203.0.113.7"}
        await Endpoint(http, resolver, Meeting()).post(initialize(), headers=headers)

    assert audit.take().client_address == "203.0.113.7"


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_both_paths_answer_without_a_redirect(endpoint: Endpoint, path: str) -> None:
    opened = await endpoint.post(initialize(), path=path)
    session = opened.headers["mcp-session-id"]

    called = await endpoint.post(call("whoami"), session=session, token="alice-1", path=path)
    got = await endpoint.http.get(path)
    ended = await endpoint.http.delete(
        path, headers={"Mcp-Session-Id": session, "Authorization": "Bearer alice-1"}
    )

    assert said(called) == "alice"
    assert (got.status_code, ended.status_code) == (405, 204)


@pytest.mark.parametrize(
    "path", ["/", "/mc", "/mcp//", "/mcp/x", "/healthz/", "/docs", WELL_KNOWN + "//"]
)
async def test_there_is_nothing_else(endpoint: Endpoint, path: str) -> None:
    response = await endpoint.http.get(path)

    assert response.status_code == 404


@pytest.mark.parametrize("path", ["", "/", "/mcp", "/mcp/"])
async def test_the_metadata_with_and_without_a_slash_at_its_end(
    endpoint: Endpoint, path: str
) -> None:
    response = await endpoint.http.get(WELL_KNOWN + path)

    assert response.status_code == 200


@pytest.mark.parametrize("path", [WELL_KNOWN, WELL_KNOWN + "/mcp"])
async def test_metadata_is_in_both_places(endpoint: Endpoint, path: str) -> None:
    response = await endpoint.http.get(path, headers={"Origin": "https://any.example"})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.json() == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
        "resource_name": "demo",
        "scopes_supported": list(SCOPES),
    }


@pytest.mark.parametrize("path", [WELL_KNOWN, WELL_KNOWN + "/mcp"])
async def test_metadata_by_other_verbs(endpoint: Endpoint, path: str) -> None:
    asked = {
        "Origin": "https://any.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "mcp-protocol-version",
    }

    head = await endpoint.http.head(path)
    options = await endpoint.http.options(path)
    preflight = await endpoint.http.options(path, headers=asked)
    post = await endpoint.http.post(path)

    assert (head.status_code, head.content) == (200, b"")
    assert options.status_code == 204
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-headers"] == "mcp-protocol-version"
    assert post.status_code == 405


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://a.example/mcp", "https://a.example/.well-known/oauth-protected-resource/mcp"),
        ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
        ("http://[::1]:8/x/mcp", "http://[::1]:8/.well-known/oauth-protected-resource/x/mcp"),
        ("https://a.example/m?t=1", "https://a.example/.well-known/oauth-protected-resource/m?t=1"),
    ],
)
async def test_where_metadata_is(resource: str, url: str) -> None:
    assert metadata_url(resource) == url


async def test_health_needs_nothing(endpoint: Endpoint) -> None:
    bare = httpx2.Headers(
        {"Host": "10.0.0.7:8000", "Origin": "https://evil.example", "Accept": "x/y"}
    )

    alive = await endpoint.http.get("/healthz", headers=bare)
    ready = await endpoint.http.get("/readyz", headers=bare)

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_not_ready_while_authsvc_is_unavailable(endpoint: Endpoint) -> None:
    endpoint.resolver.error = AuthError(Reason.SERVICE_UNAVAILABLE)

    alive = await endpoint.http.get("/healthz")
    ready = await endpoint.http.get("/readyz")

    assert alive.status_code == 200
    assert ready.status_code == 503
    assert ready.json() == {"status": "unavailable", "reason": "authsvc is unreachable"}


@pytest.mark.parametrize(
    "reason", [Reason.CALLER_NOT_ALLOWED, Reason.RESOURCE_INVALID, Reason.OVERLOADED]
)
async def test_not_ready_where_authsvc_refuses_this_server(
    endpoint: Endpoint, reason: Reason
) -> None:
    endpoint.resolver.error = AuthError(reason, "what only the log may know")

    ready = await endpoint.http.get("/readyz")

    assert ready.status_code == 503
    assert ready.json() == {
        "status": "unavailable",
        "reason": f"authsvc does not serve this server: {reason.name}",
    }


async def test_two_replicas_serve_one_session(endpoint: Endpoint) -> None:
    """The second shares the resolver, which stands for authsvc, and nothing else."""
    async with (
        running(demo_app(endpoint.resolver, Meeting())) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        replica = Endpoint(http, endpoint.resolver, Meeting())
        session = await endpoint.open()

        assert said(await replica.post(call("whoami"), session=session, token="alice-1")) == "alice"
        assert (
            await endpoint.post(call("whoami"), session=session, token="bob")
        ).status_code == 404
        ended = await replica.http.delete(
            "/mcp", headers={"Mcp-Session-Id": session, "Authorization": "Bearer alice-1"}
        )
        assert ended.status_code == 204
        assert (await endpoint.post(request("ping"), session=session)).status_code == 404


async def test_interleaved_requests_each_have_their_own_identity(endpoint: Endpoint) -> None:
    """All calls are inside the tool at once, with two tokens of one subject on one session."""
    tokens = ["alice-1", "alice-2"] * 25
    for token in set(tokens):
        endpoint.resolver.tokens[token] = replace(principal("alice"), roles=(f"role of {token}",))
    session = await endpoint.open("alice-1")
    seen: dict[int, str] = {}

    async def ask(number: int) -> None:
        response = await endpoint.post(call("meet"), session=session, token=tokens[number])
        seen[number] = said(response)

    endpoint.meeting.expected = len(tokens)
    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(len(tokens)):
                tasks.start_soon(ask, number)

    assert seen == {number: f"role of {token}" for number, token in enumerate(tokens)}


async def test_a_huge_body_is_cut_off(endpoint: Endpoint) -> None:
    """It is sent without a length, and would go on for ever."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    headers = {"Content-Type": "application/json"}
    try:
        response = await endpoint.http.post("/mcp", content=endless(), headers=headers)
    except httpx2.TransportError:
        pass  # the server has answered and closed while we still wrote
    else:
        assert response.status_code == 413

    assert sent < 64 << 20
    assert (await endpoint.http.get("/healthz")).status_code == 200


async def test_a_slow_body_is_not_waited_for(resolver: MemoryResolver) -> None:
    head = (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    async with (
        running(demo_app(resolver, Meeting(), body_timeout_seconds=0.05)) as url,
        await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2])) as slow,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        await slow.send(head)
        meanwhile = await http.get("/healthz")
        answer = b""
        with anyio.fail_after(DEADLINE_SECONDS), contextlib.suppress(anyio.EndOfStream):
            while True:
                answer += await slow.receive()

    assert meanwhile.status_code == 200
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert not resolver.calls


async def test_a_gate_of_ones_own_closes_all_tools(resolver: MemoryResolver) -> None:
    """Any ASGI app can wear it; what it does not open is closed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("reached")(scope, receive, send)

    gate = SessionGate(app, resolver=resolver, resource=RESOURCE)
    transport = httpx2.ASGITransport(gate)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://localhost", timeout=TIMEOUT_SECONDS
    ) as http:
        endpoint = Endpoint(http, resolver, Meeting())
        session = await endpoint.open()

        closed = await endpoint.post(call("public"), session=session)
        opened = await endpoint.post(call("public"), session=session, token="alice-1")

    assert closed.status_code == 401
    assert "scope" not in closed.headers["www-authenticate"]
    assert opened.text == "reached"


async def test_the_gate_lets_no_websocket_through(resolver: MemoryResolver) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("reached")

    client = TestClient(SessionGate(app, resolver=resolver, resource=RESOURCE))
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/mcp"):
        pass
