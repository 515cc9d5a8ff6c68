"""Browsers: which pages may call, and what they may see of the answers, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from authsvc.domain.errors import AuthError, Reason
from mcp_adapter import with_origin_checks
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_app,
    initialize,
    request,
    running,
)

pytestmark = pytest.mark.anyio

APP = "https://app.example"
ALLOWED = [APP, "https://mcp.example", "http://local.example", "http://local.example:6274"]
REFUSED = [
    "https://evil.example",
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://app.example:444",
    "http://app.example",
    "https://appxexample",
    "http://local.example:6274.evil.example",
    "http://local.example:",
    "null",
    "",
]


@pytest.fixture
async def endpoint(resolver: MemoryResolver) -> AsyncIterator[Endpoint]:
    """An endpoint that pages of two origins may call."""
    meeting = Meeting()
    app = demo_app(
        resolver,
        meeting,
        allowed_origins=(APP, "http://local.example:*"),
        allowed_hosts=("inner.example", "proxy.example:*"),
    )
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)


async def preflight(
    endpoint: Endpoint, origin: str, *, method: str = "POST", headers: str = "authorization"
) -> httpx2.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    return await endpoint.http.options("/mcp", headers=asked)


def listed(response: httpx2.Response, header: str) -> set[str]:
    return {value.strip().lower() for value in response.headers.get(header, "").split(",")}


@pytest.mark.parametrize("origin", ALLOWED)
async def test_an_allowed_page_may_call(endpoint: Endpoint, origin: str) -> None:
    response = await endpoint.post(initialize(), headers={"Origin": origin})

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert "origin" in listed(response, "vary")
    assert "access-control-allow-credentials" not in response.headers
    assert listed(response, "access-control-expose-headers") == {
        "mcp-session-id",
        "www-authenticate",
        "mcp-protocol-version",
        "retry-after",
    }


@pytest.mark.parametrize("origin", REFUSED)
async def test_any_other_page_is_refused_before_anything_happens(
    endpoint: Endpoint, origin: str
) -> None:
    call_headers = {"Origin": origin}
    responses = [
        await endpoint.post(initialize(), headers=call_headers),
        await endpoint.http.get("/mcp", headers=call_headers),
        await endpoint.http.delete("/mcp", headers=call_headers),
        await preflight(endpoint, origin),
    ]

    assert [response.status_code for response in responses] == [403] * 4
    assert not any("access-control-allow-origin" in response.headers for response in responses)
    assert not endpoint.resolver.calls


async def test_two_origins_are_refused(endpoint: Endpoint) -> None:
    response = await endpoint.http.get("/mcp", headers=[("Origin", APP), ("Origin", APP)])

    assert response.status_code == 403


async def test_without_an_origin_it_is_no_page(endpoint: Endpoint) -> None:
    response = await endpoint.post(initialize())

    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert "origin" in listed(response, "vary")


@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
async def test_a_preflight_needs_no_token(endpoint: Endpoint, method: str) -> None:
    wanted = (
        "authorization, content-type, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name, "
        "mcp-param-region, last-event-id"
    )

    response = await preflight(endpoint, APP, method=method, headers=wanted)

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == APP
    assert listed(response, "access-control-allow-methods") >= {"post", "delete", "options"}
    assert listed(response, "access-control-allow-headers") >= set(wanted.split(", "))
    assert "origin" in listed(response, "vary")
    assert not endpoint.resolver.calls


async def test_options_that_is_no_preflight_says_what_is_allowed(endpoint: Endpoint) -> None:
    response = await endpoint.http.options("/mcp")

    assert response.status_code == 204
    assert response.headers["allow"] == "POST, DELETE, OPTIONS"


async def test_every_error_can_be_read_by_the_page(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")
    origin = {"Origin": APP}
    responses = {
        400: await endpoint.post(b"{", headers=origin),
        401: await endpoint.post(call("whoami"), session=session, headers=origin),
        403: await endpoint.post(
            call("write"), session=session, token="alice-reader", headers=origin
        ),
        404: await endpoint.post(request("ping"), session="unknown", headers=origin),
        405: await endpoint.http.get("/mcp", headers=origin),
        406: await endpoint.post(
            request("ping"), session=session, headers={**origin, "Accept": "text/html"}
        ),
        413: await endpoint.post(b" " * (5 << 20), headers=origin),
        415: await endpoint.post(b"{}", headers={**origin, "Content-Type": "text/plain"}),
    }
    for status, reason in {429: Reason.OVERLOADED, 503: Reason.STORE_UNAVAILABLE}.items():
        endpoint.resolver.error = AuthError(reason)
        responses[status] = await endpoint.post(initialize(), headers=origin)
    endpoint.resolver.error = ValueError()
    responses[500] = await endpoint.post(initialize(), headers=origin)

    assert {status: response.status_code for status, response in responses.items()} == {
        status: status for status in responses
    }
    for response in responses.values():
        assert response.headers["access-control-allow-origin"] == APP
        assert "www-authenticate" in listed(response, "access-control-expose-headers")
        assert "origin" in listed(response, "vary")


@pytest.mark.parametrize(
    "host",
    [
        "mcp.example",
        "MCP.example",
        "inner.example",
        "proxy.example",
        "proxy.example:8443",
        "localhost:8000",
        "127.0.0.1",
        "[::1]:8000",
    ],
)
async def test_hosts_that_are_served(endpoint: Endpoint, host: str) -> None:
    assert (await endpoint.post(initialize(), headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "mcp.example:81"},
        {"Host": "mcp.example.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "localhost:8000@evil.example"},
        {"Host": ""},
    ],
)
async def test_hosts_that_are_not(endpoint: Endpoint, headers: Mapping[str, str]) -> None:
    response = await endpoint.post(initialize(), headers=headers)

    assert response.status_code == 421
    assert not endpoint.resolver.calls


@pytest.mark.parametrize("hosts", [[], [b"mcp.example", b"mcp.example"]])
async def test_one_host_is_served_and_no_other_number(hosts: list[bytes]) -> None:
    """HTTP servers refuse such requests themselves as a rule (RFC 9112 section 3.2)."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("reached")

    async def receive() -> Message:
        raise AssertionError("read")

    guard = with_origin_checks(app, resource=RESOURCE, allowed_hosts=(), allowed_origins=())
    scope = {"type": "http", "method": "GET", "headers": [(b"host", host) for host in hosts]}
    await guard(scope, receive, send)

    assert sent[0]["status"] == 421


async def test_a_lifespan_has_no_host() -> None:
    served = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(scope["type"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    guarded = with_origin_checks(app, resource=RESOURCE, allowed_hosts=(), allowed_origins=())
    await guarded({"type": "lifespan"}, receive, send)
    assert served == ["lifespan"]
