"""The gate opens and closes its client with the lifespan; open paths need no token."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio.lowlevel
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from authsvc.client import AuthClient
from authsvc.http_auth import resolving
from mcp_adapter import SessionGate
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    initialize,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.service import serving, settings_for
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

WELL_KNOWN = "/.well-known/oauth-protected-resource"


class Opened(MemoryResolver):
    """Notes what happens to it."""

    log: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.log = []

    async def __aenter__(self) -> Self:
        self.log.append("open")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Closing takes a while, and a server's loop may end as soon as the lifespan has.
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        self.log.append("close")


async def answer(request: Request) -> Response:
    message = request.state.mcp_message
    who = request.state.resolution.principal
    result = {"who": who.subject if who else ""}
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await PlainTextResponse("here")(scope, receive, send)


async def silent_about_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await PlainTextResponse("here")(scope, receive, send)


@asynccontextmanager
async def http_of(gate: SessionGate | Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        running(gate) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield http


async def test_it_is_open_for_as_long_as_the_app_runs() -> None:
    resolver = Opened()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        resolver.log.append("start")
        yield
        resolver.log.append("stop")

    async with http_of(
        SessionGate(Starlette(lifespan=lifespan), resolver=resolver, resource=RESOURCE)
    ):
        assert resolver.log == ["open", "start"]
    assert resolver.log == ["open", "start", "stop", "close"]


@pytest.mark.parametrize("app", [without_lifespan, silent_about_lifespan])
async def test_an_app_without_a_lifespan_is_given_one(
    app: object, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = Opened()
    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, open_paths=["/"])  # type: ignore[arg-type] # a parameter

    with caplog.at_level(logging.INFO):
        async with http_of(gate) as http:
            assert resolver.log == ["open"]
            assert (await http.get("/")).text == "here"

    assert resolver.log == ["open", "close"]


async def test_a_resolver_that_is_not_opened_needs_no_lifespan() -> None:
    class Plain:
        """A resolver of one's own."""

        def __init__(self) -> None:
            self._fake = MemoryResolver()
            self.resolve, self.create = self._fake.resolve, self._fake.create
            self.revoke = self._fake.revoke

    gate = SessionGate(Starlette(), resolver=Plain(), resource=RESOURCE)
    async with (
        gate.running(),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=gate), base_url="http://x", timeout=TIMEOUT_SECONDS
        ) as http,
    ):
        response = await http.post("/mcp", json=call("x"), headers={"Mcp-Session-Id": "x"})
    assert response.status_code == 404


async def test_an_app_that_cannot_start_does_not_serve() -> None:
    resolver = Opened()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if resolver.log:
            raise RuntimeError("no database")
        yield

    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    gate = SessionGate(Starlette(lifespan=lifespan), resolver=resolver, resource=RESOURCE)
    with pytest.raises(RuntimeError, match="no database"):
        await gate({"type": "lifespan"}, receive, send)  # type: ignore[arg-type] # enough of ASGI

    assert sent == ["lifespan.startup.failed"]
    assert resolver.log == ["open", "close"]


async def test_what_an_app_raises_after_it_has_started_is_raised() -> None:
    resolver, sent = Opened(), []

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("lost its database")

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message["type"])

    gate = SessionGate(breaks, resolver=resolver, resource=RESOURCE)
    with pytest.raises(RuntimeError, match="lost its database"):
        await gate({"type": "lifespan"}, receive, send)

    assert sent == ["lifespan.startup.complete"]
    assert resolver.log == ["open", "close"]


async def test_an_app_without_a_lifespan_runs_until_the_shutdown() -> None:
    """Whatever else a server may say before it."""
    resolver, sent = Opened(), []
    messages = iter(["lifespan.startup", "lifespan.other", "lifespan.shutdown"])

    async def receive() -> Message:
        return {"type": next(messages)}

    async def send(message: Message) -> None:
        sent.append((message["type"], list(resolver.log)))

    gate = SessionGate(without_lifespan, resolver=resolver, resource=RESOURCE)
    await gate({"type": "lifespan"}, receive, send)

    assert sent == [
        ("lifespan.startup.complete", ["open"]),
        ("lifespan.shutdown.complete", ["open", "close"]),
    ]
    assert next(messages, None) is None


async def test_a_gate_that_is_mounted_runs_in_its_hosts_lifespan() -> None:
    resolver = Opened()
    gate = SessionGate(Starlette(), resolver=resolver, resource=RESOURCE)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with gate.running():
            yield

    async with http_of(Starlette(routes=[Mount("/", gate)], lifespan=lifespan)) as http:
        assert resolver.log == ["open"]
        assert (await http.get("/")).status_code == 405
    assert resolver.log == ["open", "close"]


async def test_an_address_is_enough(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two lines in front of an app, and a real authsvc behind them."""
    folder, idp = tmp_path_factory.mktemp("a"), IdentityProvider()
    async with serving(settings_for(folder, idp), idp.clock) as service:
        app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])
        gate = SessionGate(app, resolver=service.address, resource=RESOURCE)
        async with http_of(gate) as http:
            endpoint = Endpoint(http, MemoryResolver(), Meeting())
            opened = await endpoint.post(initialize(), version=None)
            session = opened.headers["mcp-session-id"]
            answered = await endpoint.post(call("x"), session=session, token=idp.token("alice"))

    assert answered.json()["result"] == {"who": "alice"}


@pytest.mark.parametrize("address", ["10.0.0.7:50051", "dns:///authsvc.internal:50051"])
def test_an_address_elsewhere_needs_tls(address: str) -> None:
    with pytest.raises(ValueError, match="in the clear"):
        SessionGate(Starlette(), resolver=address, resource=RESOURCE)


async def test_without_a_lifespan_no_request_is_served(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs none leaves the client closed. The log says what to do, once a while."""
    monkeypatch.setattr(resolving, "NOT_OPEN_INTERVAL_SECONDS", 3600.0)
    gate = SessionGate(Starlette(), resolver="127.0.0.1:1", resource=RESOURCE)
    transport = httpx2.ASGITransport(app=gate)

    async with httpx2.AsyncClient(
        transport=transport, base_url="http://x", timeout=TIMEOUT_SECONDS
    ) as http:
        for _ in range(3):
            response = await http.post("/mcp", json=call("x"), headers={"Mcp-Session-Id": "x"})

    assert response.status_code == 503
    assert response.json()["error"]["data"] == {"reason": "SERVICE_UNAVAILABLE"}
    assert response.headers["retry-after"] == "1"
    [record] = [it for it in caplog.records if it.name.startswith("authsvc.http_auth")]
    assert record.getMessage().startswith("the gate is not open")
    assert "gate.running() in your app's lifespan" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


async def test_a_gate_works_again_once_it_is_opened_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, idp = tmp_path_factory.mktemp("a"), IdentityProvider()
    async with serving(settings_for(folder, idp), idp.clock) as service:
        app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])
        gate = SessionGate(app, resolver=service.address, resource=RESOURCE)
        for _ in range(2):
            async with http_of(gate) as http:
                endpoint = Endpoint(http, MemoryResolver(), Meeting())
                assert (await endpoint.post(initialize(), version=None)).status_code == 200


async def test_two_gates_share_a_client(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, idp = tmp_path_factory.mktemp("a"), IdentityProvider()
    async with serving(settings_for(folder, idp), idp.clock) as service:
        client = AuthClient(service.address, deadline_seconds=TIMEOUT_SECONDS)
        app = Starlette(routes=[Route("/mcp", answer, methods=["POST"])])
        one, other = (SessionGate(app, resolver=client, resource=RESOURCE) for _ in range(2))
        async with http_of(one) as http:
            async with other.running():
                pass
            endpoint = Endpoint(http, MemoryResolver(), Meeting())
            assert (await endpoint.post(initialize(), version=None)).status_code == 200


# What is served without a token.


async def test_open_paths_are_passed_to_the_app_and_no_others(resolver: MemoryResolver) -> None:
    async def here(request: Request) -> Response:
        return PlainTextResponse(request.url.path)

    app = Starlette(routes=[Route("/{path:path}", here, methods=["GET", "POST"])])
    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, open_paths=["/healthz"])
    async with http_of(gate) as http:
        assert (await http.get("/healthz")).text == "/healthz"
        assert (await http.get("/%68ealthz")).text == "/healthz"
        for path in ("/healthz/", "/healthz/x", "//healthz", "/HEALTHZ", "/x/../healthz/y", "/"):
            assert (await http.get(path)).status_code == 405
            assert (await http.post(path)).status_code in {400, 415}


async def test_an_open_path_is_told_who_is_asking_by_nobody(resolver: MemoryResolver) -> None:
    async def headers(request: Request) -> Response:
        return PlainTextResponse(" ".join(sorted(request.headers)))

    app = Starlette(routes=[Route("/open", headers)])
    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, open_paths=["/open"])
    claims = {"X-Authsvc-Assertion": "forged", "x_authsvc_credentials": "forged", "X-Other": "1"}
    async with http_of(gate) as http:
        names = (await http.get("/open", headers=claims)).text
    assert "authsvc" not in names
    assert "x-other" in names


async def test_an_open_path_is_told_so_whatever_the_server_makes_of_names(
    resolver: MemoryResolver,
) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, open_paths=["/open"])
    headers = [(b"X-Authsvc-Assertion", b"forged"), (b"X-Other", b" 1 ")]
    scope = {"type": "http", "method": "GET", "path": "/open", "headers": headers}
    await gate(scope, receive, send)
    assert [it["headers"] for it in seen] == [[(b"x-other", b"1")]]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_the_endpoint_itself_is_never_open(resolver: MemoryResolver, path: str) -> None:
    with pytest.raises(ValueError, match="/mcp is the MCP endpoint, which needs the gate"):
        SessionGate(Starlette(), resolver=resolver, resource=RESOURCE, open_paths=[path])


async def test_metadata_has_a_page_of_another_origin_read_it(resolver: MemoryResolver) -> None:
    gate = SessionGate(
        Starlette(),
        resolver=resolver,
        resource=RESOURCE,
        authorization_servers=[ISSUER],
        scopes=["things.read"],
    )
    async with http_of(gate) as http:
        for path in (WELL_KNOWN, f"{WELL_KNOWN}/mcp"):
            response = await http.get(path, headers={"Origin": "https://app.example"})
            assert response.json() == {
                "resource": RESOURCE,
                "authorization_servers": [ISSUER],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["things.read"],
            }
            assert response.headers["access-control-allow-origin"] == "*"
        assert (await http.get(f"{WELL_KNOWN}/other")).status_code == 404


async def test_without_authorization_servers_no_metadata_is_made_up(
    resolver: MemoryResolver,
) -> None:
    async with http_of(SessionGate(Starlette(), resolver=resolver, resource=RESOURCE)) as http:
        for path in (WELL_KNOWN, f"{WELL_KNOWN}/mcp"):
            for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
                answer = await http.request(method, path)
                assert answer.status_code == 404
                assert answer.headers["access-control-allow-origin"] == "*"
