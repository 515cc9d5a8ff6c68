"""The gate wherever it is put: calls, metadata, open paths and challenges agree.

A server is asked from outside, by the path that its clients know.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_adapter import SessionGate, caller
from mcp_adapter.gate.open_paths import path_in_mount
from mcp_adapter.testing import FakeResolver
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    initialize,
    message_of,
    principal,
    running,
)
from tests.support.envoy import envoy
from tests.support.nginx import nginx
from tests.support.processes import ROOT

pytestmark = pytest.mark.anyio

HOST = "https://mcp.example"
PROXIES = ROOT / "examples" / "proxies"


class AnyResourceResolver(MemoryResolver):
    """A resolver for whichever resource a shape has."""

    def _record(self, method: str, session_id: str, token: str, resource: str) -> None:
        self.calls.append((method, session_id, token))


def sdk_app(path: str = "/mcp") -> Starlette:
    """The official SDK's app, with a tool and a path for probes."""
    mcp = MCPServer("mounted")

    @mcp.tool()
    async def whoami(ctx: Context) -> str:
        return caller(ctx.request_context.request).subject

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("alive")

    app = mcp.streamable_http_app(
        streamable_http_path=path,
        stateless_http=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.routes.append(Route("/healthz", healthz))
    return app


def gate_of(resolver: FakeResolver, path: str, app: ASGIApp | None = None) -> SessionGate:
    """The gate of the resource that has this path."""
    return SessionGate(
        app or sdk_app(),
        resolver=resolver,
        resource=HOST + path,
        authorization_servers=[ISSUER],
        open_paths=["/healthz"],
    )


def hosted(
    gate: SessionGate, inner: Starlette, routes: Sequence[BaseRoute], **more: object
) -> Starlette:
    """An app that mounts the gate, and runs it and the app behind it."""
    return Starlette(routes=routes, lifespan=lifespan_of(gate, inner), **more)  # type: ignore[arg-type] # none


def lifespan_of(
    gate: SessionGate, inner: Starlette
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """The lifespan of an app that mounts the gate."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with gate.running(), inner.router.lifespan_context(inner):
            yield

    return lifespan


@dataclass(frozen=True)
class Shape:
    """Where a gate is.

    Attributes:
        prefix: before the path of the app, as clients see it.
        make: the server's app.
        root_path: of the server.
        stripped: the part of the prefix that a proxy takes away.
    """

    prefix: str
    make: Callable[[FakeResolver], ASGIApp]
    root_path: str = ""
    stripped: str = ""


def bare(resolver: FakeResolver) -> ASGIApp:
    return gate_of(resolver, "/mcp")


def mounted(resolver: FakeResolver) -> ASGIApp:
    gate = gate_of(resolver, "/team/mcp", inner := sdk_app())
    return hosted(gate, inner, [*gate.metadata_routes(), Mount("/team", gate)])


def nested(resolver: FakeResolver) -> ASGIApp:
    gate = gate_of(resolver, "/a/b/c/mcp", inner := sdk_app())
    mount = Mount("/a", routes=[Mount("/b", Starlette(routes=[Mount("/c", gate)]))])
    return hosted(gate, inner, [*gate.metadata_routes(), mount])


def by_host(resolver: FakeResolver) -> ASGIApp:
    gate = gate_of(resolver, "/mcp", inner := sdk_app())
    return hosted(gate, inner, [Host("127.0.0.1", gate)])


def beside_another(resolver: FakeResolver) -> ASGIApp:
    """Two gates of one server: each has its own metadata."""
    other = gate_of(resolver, "/other/mcp")
    gate = gate_of(resolver, "/team/mcp", inner := sdk_app())
    routes = [*other.metadata_routes(), *gate.metadata_routes()]
    return hosted(gate, inner, [*routes, Mount("/other", other), Mount("/team", gate)])


def fastapi_mounted(resolver: FakeResolver) -> ASGIApp:
    gate = gate_of(resolver, "/team/mcp", inner := sdk_app())
    app = FastAPI(lifespan=lifespan_of(gate, inner), routes=gate.metadata_routes())
    app.mount("/team", gate)
    return app


def fastapi_routed(resolver: FakeResolver) -> ASGIApp:
    """Below a router of FastAPI."""
    gate = gate_of(resolver, "/v1/team/mcp", inner := sdk_app())
    app = FastAPI(lifespan=lifespan_of(gate, inner), routes=gate.metadata_routes())
    router = APIRouter()
    router.mount("/team", gate)
    app.include_router(router, prefix="/v1")
    return app


def fastapi_below_root_path(resolver: FakeResolver) -> ASGIApp:
    gate = gate_of(resolver, "/api/team/mcp", inner := sdk_app())
    app = FastAPI(lifespan=lifespan_of(gate, inner), routes=gate.metadata_routes())
    app.mount("/team", gate)
    return app


def of_prefix(resolver: FakeResolver) -> ASGIApp:
    return gate_of(resolver, "/team/mcp")


def of_kept_prefix(resolver: FakeResolver, prefix: str = "/team") -> ASGIApp:
    """The app has the prefix in its own routes."""
    inner = Starlette(
        routes=[Mount(prefix, app := sdk_app())], lifespan=app.router.lifespan_context
    )
    return SessionGate(
        inner,
        resolver=resolver,
        resource=f"{HOST}{prefix}/mcp",
        authorization_servers=[ISSUER],
        open_paths=[f"{prefix}/healthz"],
    )


def below_a_root_path_outside_of_the_path(resolver: FakeResolver) -> ASGIApp:
    """As servers have it that put ``root_path`` into the scope and leave the path as it came."""
    gate = of_prefix(resolver)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await gate({**scope, "root_path": "/team"}, receive, send)

    return serve


SHAPES = {
    "bare": Shape("", bare),
    "mount": Shape("/team", mounted),
    "nested mounts": Shape("/a/b/c", nested),
    "host": Shape("", by_host),
    "two gates": Shape("/team", beside_another),
    "FastAPI": Shape("/team", fastapi_mounted),
    "FastAPI router": Shape("/v1/team", fastapi_routed),
    "FastAPI root_path": Shape(
        "/api/team", fastapi_below_root_path, root_path="/api", stripped="/api"
    ),
    "root_path": Shape("/team", of_prefix, root_path="/team", stripped="/team"),
    "root_path, path without": Shape(
        "/team", below_a_root_path_outside_of_the_path, stripped="/team"
    ),
    "stripped": Shape("/team", of_prefix, stripped="/team"),
    "kept": Shape("/team", of_kept_prefix),
}


@dataclass
class Outside:
    """What a client sees of a server.

    Attributes:
        endpoint: its MCP endpoint.
        prefix: before the path of the app.
        stripped: the part of it that a proxy takes away.
    """

    endpoint: Endpoint
    prefix: str
    stripped: str

    async def get(self, path: str) -> httpx2.Response:
        return await self.endpoint.http.get(path)


class Stripping(httpx2.AsyncHTTPTransport):
    """A proxy that takes a prefix away."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix.encode()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raw = request.url.raw_path
        if self._prefix and raw.startswith(self._prefix + b"/"):
            request.url = request.url.copy_with(raw_path=raw.removeprefix(self._prefix))
        return await super().handle_async_request(request)


@asynccontextmanager
async def outside(shape: Shape, resolver: MemoryResolver) -> AsyncIterator[Outside]:
    """A server of this shape, over real HTTP."""
    async with (
        running(shape.make(resolver), root_path=shape.root_path) as url,
        httpx2.AsyncClient(
            base_url=url, timeout=DEADLINE_SECONDS, transport=Stripping(shape.stripped)
        ) as http,
    ):
        yield Outside(Endpoint(http, resolver, Meeting()), shape.prefix, shape.stripped)


@pytest.fixture
def resolver() -> MemoryResolver:
    """Alice has a token."""
    return AnyResourceResolver(tokens={"alice-1": principal("alice")})


@pytest.fixture(params=SHAPES)
async def server(
    request: pytest.FixtureRequest, resolver: MemoryResolver
) -> AsyncIterator[Outside]:
    async with outside(SHAPES[request.param], resolver) as found:
        yield found


async def check(server: Outside) -> None:
    """A client's way: no token, the challenge, the metadata that it names, a token, the end."""
    endpoint, path = server.endpoint, f"{server.prefix}/mcp"

    begun = await endpoint.post(initialize(), version=None, path=path)
    assert begun.status_code == 200, begun.text
    session = begun.headers["mcp-session-id"]

    challenged = await endpoint.post(call("whoami"), session=session, path=path)
    assert challenged.status_code == 401
    (named,) = re.findall(r'resource_metadata="([^"]+)"', challenged.headers["www-authenticate"])
    assert named.startswith(f"{HOST}/")
    document = await server.get(urlsplit(named).path)
    assert document.status_code == 200, document.text
    assert document.json()["resource"] == HOST + path
    assert document.json()["authorization_servers"] == [ISSUER]
    posted = await endpoint.http.post(urlsplit(named).path, json={})
    assert posted.status_code == 405

    called = await endpoint.post(call("whoami"), session=session, token="alice-1", path=path)
    assert message_of(called)["result"]["content"][0]["text"] == "alice"

    opened = await server.get(f"{server.prefix}/healthz")
    assert (opened.status_code, opened.text) == (200, "alive")

    assert (await server.get(path)).status_code == 405
    headers = {"Mcp-Session-Id": session, "Authorization": "Bearer alice-1"}
    ended = await endpoint.http.delete(path, headers=headers)
    assert ended.status_code == 204
    again = await endpoint.post(call("whoami"), session=session, token="alice-1", path=path)
    assert again.status_code == 404


async def test_calls_metadata_open_paths_and_challenges_agree(server: Outside) -> None:
    await check(server)


DISGUISED = (
    "/healthz/",
    "/HEALTHZ",
    "//healthz",
    "/./healthz",
    "/x/../healthz",
    "/healthz/../mcp",
    "/%2Fhealthz",
    "/%2e/healthz",
    "/healthz%2F",
    "/healthz%00",
    "/healthz;x",
    "/healthz%3Fx",
    "/%252e%252e/healthz",
    "/healthz%5c",
    "/mcp/healthz",
    "/mcp%2Fhealthz",
)


async def test_what_resembles_an_open_path_is_not_open(server: Outside) -> None:
    for path in DISGUISED:
        status = await status_of(server, server.prefix + path)
        assert status in {400, 404, 405}, (path, status)


async def status_of(server: Outside, path: str) -> int:
    """The status of a GET for a path as it is: clients' libraries normalise paths."""
    url = server.endpoint.http.base_url
    async with await anyio.connect_tcp(url.host, url.port or 0) as stream:
        sent = path.removeprefix(server.stripped)
        await stream.send(f"GET {sent} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
        with anyio.fail_after(DEADLINE_SECONDS):
            return int((await stream.receive()).split(b" ", 2)[1])


# Behind a proxy: the configurations are the examples'.

PROXIED = {
    "stripped": Shape("/team", of_prefix),
    "stripped, root_path": Shape("/team", of_prefix, root_path="/team"),
    "kept": Shape("/kept", partial(of_kept_prefix, prefix="/kept")),
}
UPSTREAM = "127.0.0.1:8000"


@asynccontextmanager
async def behind_nginx(
    shape: Shape, resolver: MemoryResolver, folder: Path
) -> AsyncIterator[Outside]:
    """A server of this shape behind nginx."""
    text = (PROXIES / "nginx.conf").read_text()
    async with running(shape.make(resolver), root_path=shape.root_path) as url:
        with nginx(text.replace(UPSTREAM, urlsplit(url).netloc), folder) as outer:
            async with httpx2.AsyncClient(base_url=outer, timeout=DEADLINE_SECONDS) as http:
                yield Outside(Endpoint(http, resolver, Meeting()), shape.prefix, "")


@asynccontextmanager
async def behind_envoy(
    shape: Shape, resolver: MemoryResolver, folder: Path
) -> AsyncIterator[Outside]:
    """A server of this shape behind Envoy."""
    text = (PROXIES / "envoy.yaml").read_text()
    async with running(shape.make(resolver), root_path=shape.root_path) as url:
        configuration = yaml.safe_load(
            text.replace("port_value: 8000", f"port_value: {urlsplit(url).port}")
        )
        with envoy(configuration, folder) as listening:
            transport = httpx2.AsyncHTTPTransport(uds=str(listening))
            async with httpx2.AsyncClient(
                base_url="http://mcp.example", transport=transport, timeout=DEADLINE_SECONDS
            ) as http:
                yield Outside(Endpoint(http, resolver, Meeting()), shape.prefix, "")


@pytest.mark.parametrize("proxy", [behind_nginx, behind_envoy])
@pytest.mark.parametrize("name", PROXIED)
async def test_they_agree_behind_a_proxy(
    resolver: MemoryResolver,
    tmp_path: Path,
    proxy: Callable[..., AbstractAsyncContextManager[Outside]],
    name: str,
) -> None:
    async with proxy(PROXIED[name], resolver, tmp_path) as server:
        await check(server)
        # What the proxy makes of a path is what the gate judges and the app sees.
        for path in DISGUISED:
            request = server.endpoint.http.build_request("GET", "/x")
            request.url = request.url.copy_with(raw_path=(server.prefix + path).encode())
            answer = await server.endpoint.http.send(request)
            assert answer.status_code != 200 or answer.text == "alive", path


async def asked(app: ASGIApp, path: str, *, method: str = "GET", **scope: object) -> int:
    """The status of a request with this scope."""
    started: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])

    given: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        **scope,
    }
    await app(given, receive, send)
    return started[0]


def open_at_its_root(resolver: FakeResolver, *, stateful: bool = False) -> SessionGate:
    """An app with a page at its root."""

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("page")(scope, receive, send)

    return SessionGate(
        page,
        resolver=resolver,
        resource=f"{HOST}/team/mcp",
        open_paths=["/", "/x"],
        stateful=stateful,
        streams=stateful,
    )


async def test_the_endpoint_is_not_open_where_it_is_the_root_of_its_app(
    resolver: MemoryResolver,
) -> None:
    gate = open_at_its_root(resolver)
    assert await asked(gate, "/") == 200
    assert await asked(gate, "/team/", root_path="/team") == 200
    assert await asked(gate, "/team/mcp/", root_path="/team/mcp") == 405
    assert await asked(gate, "/team/mcp", root_path="/team/mcp") == 405
    # A proxy took the path away, and nothing shows it.
    assert await asked(gate, "/", method="POST") == 415
    stream = [(b"mcp-session-id", b"s1")]
    assert await asked(gate, "/", headers=stream) == 405
    gate = open_at_its_root(resolver, stateful=True)
    assert await asked(gate, "/") == 200
    assert await asked(gate, "/", headers=stream) == 401


@pytest.mark.parametrize(
    ("path", "raw_path", "status"),
    [
        ("/x", None, 200),
        ("/x", b"/%78", 200),
        ("/x", b"/x?next=%2F", 200),
        ("/team/x", b"/team%2Fx", 405),
        ("/team/x", b"/team%2fx", 405),
        ("/team/x", b"/team/x", 200),
    ],
)
async def test_a_path_that_apps_may_read_in_two_ways_is_not_open(
    resolver: MemoryResolver, path: str, raw_path: bytes | None, status: int
) -> None:
    """An encoded slash is no slash for apps that route by the undecoded path."""
    gate = open_at_its_root(resolver)
    assert await asked(gate, path, raw_path=raw_path, root_path="/team") == status


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/MCP", "/team/mcp"])
def test_what_can_be_the_endpoint_below_a_mount_is_never_open(
    resolver: MemoryResolver, path: str
) -> None:
    with pytest.raises(ValueError, match="open_paths: /team/mcp is the MCP endpoint"):
        SessionGate(sdk_app(), resolver=resolver, resource=f"{HOST}/team/mcp", open_paths=[path])


@given(path=st.text("/at", min_size=1, max_size=6), root=st.text("/at", max_size=4))
def test_the_gate_reads_the_path_that_starlette_routes_by(path: str, root: str) -> None:
    scope = {"type": "http", "path": path, "root_path": root}
    assert path_in_mount(scope) == get_route_path(scope)


async def test_metadata_mounted_by_itself_at_the_root(resolver: MemoryResolver) -> None:
    """Where an app mounts the gate at ``/.well-known``, the whole path names the metadata."""
    gate = gate_of(resolver, "/team/mcp")
    app = Starlette(routes=[Mount("/.well-known", gate)])
    assert await asked(app, "/.well-known/oauth-protected-resource/team/mcp") == 200
    assert await asked(app, "/.well-known/oauth-protected-resource/other") == 404


async def test_the_metadata_of_a_path_that_is_encoded_in_its_uri(resolver: MemoryResolver) -> None:
    gate = gate_of(resolver, "/t%C3%A9am/mcp")
    path = "/.well-known/oauth-protected-resource/téam/mcp"
    routes = [it for it in gate.metadata_routes() if isinstance(it, Route)]
    assert [it.path for it in routes] == [path, f"{path}/"]
    assert await asked(gate, path) == 200


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/", ""])
async def test_metadata_is_found_with_and_without_a_slash_at_its_end(
    resolver: MemoryResolver, path: str
) -> None:
    gate = gate_of(resolver, "/mcp")
    assert await asked(gate, f"/.well-known/oauth-protected-resource{path}") == 200
    outermost = Router([*gate.metadata_routes()], redirect_slashes=False)
    found = await asked(outermost, f"/.well-known/oauth-protected-resource{path}")
    assert found == (200 if path.startswith("/mcp") else 404)


def test_a_gate_without_issuers_has_no_metadata_to_mount(resolver: MemoryResolver) -> None:
    gate = SessionGate(sdk_app(), resolver=resolver, resource=f"{HOST}/mcp")
    with pytest.raises(ValueError, match=r"metadata_routes needs .* authorization_servers"):
        gate.metadata_routes()


@pytest.mark.parametrize("open_paths", [[], ["/.well-known/oauth-protected-resource/mcp"]])
async def test_a_challenge_names_metadata_only_where_it_is_served(
    resolver: MemoryResolver, open_paths: list[str]
) -> None:
    gate = SessionGate(sdk_app(), resolver=resolver, resource=f"{HOST}/mcp", open_paths=open_paths)
    async with running(gate) as url, httpx2.AsyncClient(base_url=url) as http:
        challenged = await Endpoint(http, resolver, Meeting()).post(
            call("whoami"), version="2025-03-26", session="x", token="nobody"
        )
    assert challenged.status_code == 401
    assert ("resource_metadata=" in challenged.headers["www-authenticate"]) == bool(open_paths)


# What docs/protect-your-server.md shows.

PAGE = ROOT / "docs" / "protect-your-server.md"


def shown(language: str) -> list[str]:
    """The page's blocks of the section about mounts."""
    section = PAGE.read_text().split("### Mount the gate anywhere\n")[1].split("\n### ")[0]
    return re.findall(rf"^```{language}\n(.*?)```", section, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
async def test_the_page_mounts_the_gate(
    resolver: MemoryResolver, framework: type[Starlette]
) -> None:
    gate, *apps = shown("python")
    (app,) = (text for text in apps if f"import {framework.__name__}\n" in text)
    inner = sdk_app()
    page: dict[str, Any] = {"SessionGate": SessionGate, "resolver": resolver, "inner": inner}
    made = gate.replace('"127.0.0.1:50051"', "resolver").replace("mcp.example.com", "mcp.example")
    made = made.replace("mcp.streamable_http_app(stateless_http=True)", "inner")
    exec(made.replace("https://idp.example.com", ISSUER) + app, page)  # noqa: S102 - the page's own code

    assert type(page["app"]) is framework
    async with outside(Shape("/team", lambda _: page["app"]), resolver) as server:
        await check(server)


def test_the_page_shows_what_the_examples_have() -> None:
    for language, name in (("nginx", "nginx.conf"), ("yaml", "envoy.yaml")):
        (block,) = shown(language)
        lines = {line.strip() for line in (PROXIES / name).read_text().splitlines()}
        assert {line.strip() for line in block.splitlines()} <= lines, name
