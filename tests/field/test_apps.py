"""The app behind the gate: its streams end with their callers, and its framework knows them."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.dependencies import get_access_token as fast_access_token
from fastmcp.server.sessions import UserSession
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl, BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from authsvc.domain.resolution import Principal, Resolver
from authsvc.http_auth import resolving
from authsvc.server.running import running as running_authsvc
from mcp_adapter import Requirement, SessionGate, with_broader_scopes, with_origin_checks
from mcp_adapter.gate import caller_checks
from mcp_adapter.gate.metadata import metadata_routes
from mcp_adapter.testing import FakeResolver, as_caller
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    LEGACY,
    MODERN,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    initialize,
    message_of,
    request,
    running,
)
from tests.support import operators
from tests.support.clock import Clock
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

UNGUARDED = TransportSecuritySettings(enable_dns_rebinding_protection=False)
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
BOUND_SECONDS = 1.0
"""What docs/protect-your-server.md publishes."""


# Streams: each way in which a response can stream, each way in which its caller can end.


def official(*, stateless: bool) -> ASGIApp:
    """The SDK's app, with a tool that reports progress and goes on."""
    mcp = MCPServer("streaming")

    @mcp.tool()
    async def hold(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "begun")
        await anyio.sleep_forever()
        return "never"

    return mcp.streamable_http_app(stateless_http=stateless, transport_security=UNGUARDED)


def raw(*, stateless: bool) -> ASGIApp:
    """An app that streams by itself: no events, no framework of MCP."""

    async def stream(request: Request) -> Response:
        if request.state.mcp_message["method"] != "tools/call":
            return Response(headers={"Mcp-Session-Id": "raw-session-0123456789"})

        async def chunks() -> AsyncIterator[bytes]:
            yield b"data: {}\n\n"
            await anyio.sleep_forever()

        return StreamingResponse(chunks(), media_type="application/x-ndjson")

    return Starlette(routes=[Route("/mcp", stream, methods=["POST"])])


WAYS: dict[str, tuple[Callable[..., ASGIApp], str, str, Mapping[str, Any] | None]] = {
    "GET stream": (official, LEGACY, "GET", None),
    "tools/call": (official, LEGACY, "POST", call("hold", _meta={"progressToken": 1})),
    "tools/call, 2026-07-28": (
        official,
        MODERN,
        "POST",
        call("hold", _meta={"progressToken": 1, **META}),
    ),
    "subscriptions/listen": (
        official,
        MODERN,
        "POST",
        request(
            "subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": META}
        ),
    ),
    "raw": (raw, LEGACY, "POST", call("stream")),
    "raw, 2026-07-28": (raw, MODERN, "POST", call("stream", _meta=META)),
}
ENDS = ["expired", "token revoked", "subject revoked", "session revoked"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ENDS)
async def test_every_stream_ends_with_its_caller(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, way: str, end: str
) -> None:
    make, version, method, body = WAYS[way]
    in_session = version == LEGACY
    token = idp.token(ttl_seconds=60, jti="j1")
    tls = operators.write_tls(tmp_path)
    settings = operators.settings(tmp_path, tls, idp, "memory")
    async with (
        running_authsvc(settings, clock=clock) as address,
        operators.clients(address, tls) as site,
    ):
        gate = SessionGate(
            make(stateless=not in_session),
            resolver=site.server,
            resource=RESOURCE,
            stateful=in_session,
            streams=in_session,
        )
        async with (
            running(gate) as url,
            httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
        ):
            if in_session:
                session = await begun(Endpoint(http, MemoryResolver(), Meeting()), token)
            else:
                session = await principal_session(site, token)
            with anyio.fail_after(DEADLINE_SECONDS):
                async with http.stream(
                    method,
                    "/mcp",
                    json=body,
                    headers=headers_of(body, version, token, session if in_session else ""),
                ) as response:
                    assert response.status_code == 200
                    parts = response.aiter_text()
                    if method == "POST":
                        await anext(parts)
                    await end_caller(site, clock, idp, session, end)
                    rest = "".join([part async for part in parts])
    # The SDK's clients get the reason as the answer; a stream of another type, or of no request,
    # is over.
    assert ('"reason":' in rest) == (make is official and method == "POST")


def headers_of(
    body: Mapping[str, Any] | None, version: str, token: str, session: str
) -> dict[str, str]:
    """The headers of a request that opens a stream."""
    given = {
        "Accept": "text/event-stream" if body is None else "application/json, text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": version,
        "Mcp-Session-Id": session,
        "Mcp-Method": body["method"] if body else "",
        "Mcp-Name": body["params"].get("name", "") if body else "",
    }
    return {name: value for name, value in given.items() if value}


async def begun(endpoint: Endpoint, token: str) -> str:
    """A session of an app that keeps its own."""
    session = await endpoint.open(token)
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await endpoint.post(done, session=session, token=token)
    return session


async def principal_session(site: operators.Site, token: str) -> str:
    """The session that authsvc keeps for requests without one."""
    session = (await site.resolve("", token)).session
    assert session is not None
    return session.id


async def end_caller(
    site: operators.Site, clock: Clock, idp: IdentityProvider, session: str, end: str
) -> None:
    """Take away the right to a stream."""
    match end:
        case "expired":
            clock.advance(91)
        case "token revoked":
            await site.operator.revoke_token(idp.issuer, "j1")
        case "subject revoked":
            await site.operator.revoke_subject(idp.issuer, "alice")
        case "session revoked":
            await site.operator.revoke_session(session)


def test_a_check_is_within_the_bound_that_is_published() -> None:
    assert caller_checks.CHECK_SECONDS + caller_checks.ANSWER_SECONDS <= BOUND_SECONDS


# What frameworks keep for a caller, and ask of one.

HERE = "https://mcp.example/mcp"


TOKENS = {
    "alice": Principal(ISSUER, "alice", 2e9, client_id="app", scopes=("read",)),
    "alice-writer": Principal(ISSUER, "alice", 2e9, client_id="app", scopes=("read", "write")),
    "bob": Principal(ISSUER, "bob", 2e9, client_id="app", scopes=("read",)),
}


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[Endpoint]:
    """A stateless app behind the gate, for ``TOKENS``."""
    resolver = MemoryResolver(tokens=TOKENS)
    gate = SessionGate(app, resolver=resolver, resource=HERE)
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, Meeting())


class Size(BaseModel):
    """What is asked for."""

    size: str


async def ask_size() -> Elicit[Size]:
    return Elicit("Which size?", Size)


class SdkVerifier:
    """The SDK's own way: a verifier in place of the gate."""

    async def verify_token(self, token: str) -> AccessToken | None:
        who = TOKENS.get(token)
        if who is None:
            return None
        return AccessToken(
            token=token,
            client_id=who.client_id,
            scopes=list(who.scopes),
            resource=HERE,
            subject=who.subject,
            claims={"iss": who.issuer, "sub": who.subject},
        )


def asking(*, auth: bool) -> Starlette:
    """A tool that asks its user, by a state that the client echoes."""
    own: dict[str, Any] = {
        "token_verifier": SdkVerifier(),
        "auth": AuthSettings(
            issuer_url=AnyHttpUrl(ISSUER),
            resource_server_url=AnyHttpUrl(HERE),
            validate_token_resource=True,
        ),
    }
    mcp = MCPServer("asking", **(own if auth else {}))

    @mcp.tool()
    async def order(size: Annotated[Size, Resolve(ask_size)]) -> str:
        return f"{size.size}"

    return mcp.streamable_http_app(stateless_http=True, transport_security=UNGUARDED)


@asynccontextmanager
async def by_the_sdk() -> AsyncIterator[Endpoint]:
    """The same app, whose own verifier knows the tokens."""
    async with (
        running(asking(auth=True)) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, MemoryResolver(), Meeting())


async def order(endpoint: Endpoint, token: str, **params: object) -> httpx2.Response:
    can_elicit: dict[str, Any] = {
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}
    }
    body = request(
        "tools/call", {"name": "order", "arguments": {}, "_meta": {**META, **can_elicit}, **params}
    )
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "order"}
    return await endpoint.post(body, token=token, version=MODERN, headers=headers)


@pytest.mark.parametrize(
    "serve", [lambda: served(asking(auth=False)), by_the_sdk], ids=["gate", "sdk"]
)
async def test_the_request_state_of_another_is_rejected_as_by_the_sdk(
    serve: Callable[[], AbstractAsyncContextManager[Endpoint]],
) -> None:
    async with serve() as endpoint:
        asked = message_of(await order(endpoint, "alice"))["result"]
        (key,) = asked["inputRequests"]
        answer = {
            "inputResponses": {key: {"action": "accept", "content": {"size": "L"}}},
            "requestState": asked["requestState"],
        }
        stolen = (await order(endpoint, "bob", **answer)).json()["error"]
        own = message_of(await order(endpoint, "alice-writer", **answer))["result"]

    assert (stolen["code"], stolen["data"]) == (-32602, {"reason": "invalid_request_state"})
    assert own["content"][0]["text"] == "L"


def fastmcp() -> ASGIApp:
    mcp = FastMCP("keeping")

    @mcp.tool
    async def whoami() -> str:
        token = fast_access_token()
        assert token is not None
        return json.dumps([token.token, token.subject, token.client_id, token.scopes])

    @mcp.tool
    async def keep(value: str, session: UserSession) -> str:
        before = await session.get("value", "nothing")
        await session.set("value", value)
        return str(before)

    @mcp.tool(auth=require_scopes("write"))
    async def write() -> str:
        return "written"

    return mcp.http_app(stateless_http=True)


async def answer_of(endpoint: Endpoint, token: str, tool: str, **arguments: object) -> str:
    params = {"name": tool, "arguments": arguments}
    response = await endpoint.modern("tools/call", params, token=token)
    text = message_of(response)["result"]["content"][0]["text"]
    assert isinstance(text, str)
    return text


async def test_fastmcp_knows_the_caller_and_not_the_token() -> None:
    async with served(fastmcp()) as endpoint:
        shown, *who = json.loads(await answer_of(endpoint, "alice-writer", "whoami"))
        assert who == ["alice", "app", ["read", "write"]]
        assert "alice-writer" not in shown
        assert shown.startswith("not-a-token:")

        assert await answer_of(endpoint, "alice", "keep", value="hers") == "nothing"
        assert await answer_of(endpoint, "bob", "keep", value="his") == "nothing"
        assert await answer_of(endpoint, "alice-writer", "keep", value="new") == "hers"

        assert "Unknown tool" in await answer_of(endpoint, "alice", "write")
        assert await answer_of(endpoint, "alice-writer", "write") == "written"


# Arguments that would do nothing, or something else.

MISTAKES: list[tuple[str, Callable[[], object], type[Exception]]] = [
    ("scopes", lambda: Requirement("a:b"), TypeError),  # type: ignore[arg-type] # the mistake
    ("scopes", lambda: Requirement(("a b",)), ValueError),
    (r"implied_by\['a'\]", lambda: Requirement(("a",), {"a": "b"}), TypeError),  # type: ignore[dict-item] # the mistake
    (r"implied\['a'\]", lambda: with_broader_scopes(lambda *_: None, {"a": "b"}), TypeError),
    ("open_paths", lambda: gate(open_paths="/healthz"), TypeError),
    ("open_paths", lambda: gate(open_paths=["healthz"]), ValueError),
    ("authorization_servers", lambda: gate(authorization_servers=ISSUER), TypeError),
    (r"authorization_servers\[0\]", lambda: gate(authorization_servers=["idp"]), ValueError),
    ("scopes", lambda: gate(scopes="a b"), TypeError),
    (r"scopes\[0\]", lambda: gate(scopes=["a b"]), ValueError),
    ("resource", lambda: gate(resource="mcp.example/mcp"), ValueError),
    ("resource", lambda: gate(resource="https://mcp.example/mcp#x"), ValueError),
    ("resource", lambda: gate(resource="HTTPS://MCP.EXAMPLE/mcp"), ValueError),
    ("resource", lambda: gate(resource=["https://mcp.example/mcp"]), TypeError),
    ("scopes", lambda: metadata_routes(HERE, authorization_servers=(), scopes="a"), TypeError),
    ("allowed_hosts", lambda: guard(allowed_hosts="mcp.example"), TypeError),
    ("allowed_origins", lambda: guard(allowed_origins="https://app.example"), TypeError),
    ("trusted_proxies", lambda: guard(trusted_proxies="10.0.0.7"), TypeError),
    ("resource", lambda: guard(resource="mcp.example"), ValueError),
    ("scopes", lambda: FakeResolver().issue("alice", scopes="a"), TypeError),
    ("scopes", lambda: as_caller("alice", scopes="a"), TypeError),
]


def gate(**arguments: object) -> SessionGate:
    given: dict[str, Any] = {"resolver": FakeResolver(), "resource": HERE, **arguments}
    return SessionGate(Starlette(), **given)


def guard(**arguments: object) -> ASGIApp:
    given: dict[str, Any] = {"resource": HERE, **arguments}
    return with_origin_checks(Starlette(), **given)


@pytest.mark.parametrize(("name", "mistake", "error"), MISTAKES)
def test_a_mistake_is_refused_at_once_and_named(
    name: str, mistake: Callable[[], object], error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        mistake()


# A gate that nobody has opened.


@pytest.mark.parametrize("make", [FakeResolver, lambda: "127.0.0.1:1"], ids=["fake", "address"])
async def test_a_gate_that_is_not_open_says_so_in_one_line(
    make: Callable[[], Resolver | str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mounted, and its host's lifespan does not enter ``running()``."""
    monkeypatch.setattr(resolving, "NOT_OPEN_INTERVAL_SECONDS", 3600.0)
    unopened = SessionGate(Starlette(), resolver=make(), resource=HERE)
    app = Starlette(routes=[Mount("/team", unopened)])
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, MemoryResolver(), Meeting())
        answers = [
            await endpoint.post(initialize(), version=None, path="/team/mcp"),
            await endpoint.post(call("x"), token="t", version=MODERN, path="/team/mcp"),
            await endpoint.post(call("x"), session="s", path="/team/mcp"),
        ]
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["id"] == 7
        assert answer.json()["error"]["data"] == {"reason": "SERVICE_UNAVAILABLE"}
    (record,) = (it for it in caplog.records if it.levelno >= logging.WARNING)
    assert record.getMessage().startswith("the gate is not open")
    assert "enter gate.running() in your app's lifespan" in record.getMessage()
    assert record.exc_info is None
