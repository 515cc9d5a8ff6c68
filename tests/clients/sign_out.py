"""A provider with its users, two replicas that it reports sign-outs to, and all ways to call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2
from mcp.server.mcpserver import Context, MCPServer

from authsvc.client import AuthClient
from authsvc.domain.errors import AuthError
from mcp_adapter import SessionGate, current_caller
from tests.gateways.replicas import Replicas, serving_replicas
from tests.mcp_adapter.harness import (
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    opened,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.oidc_provider import (
    BY_SUBJECT,
    WITH_SID,
    WITHOUT_SID,
    OidcProvider,
    serving_oidc_provider,
)
from tests.support.valkey import free_port

REPORTED = (WITH_SID, WITHOUT_SID, BY_SUBJECT)
REVOKED = "TOKEN_REVOKED"
WHOAMI: Mapping[str, object] = {"name": "whoami", "arguments": {}}


@dataclass(frozen=True)
class Deployment:
    """What runs beside a module's tests.

    Attributes:
        provider: reports sign-outs to the first replica, and to no other.
        replicas: over one store, with Envoys that ask them in turn.
    """

    provider: OidcProvider
    replicas: Replicas

    @property
    def resource(self) -> str:
        """Audience of the tokens."""
        return self.replicas.gateway.resource


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Run it, with its files in a folder."""
    origin = f"http://127.0.0.1:{free_port()}"
    signals = f"127.0.0.1:{free_port()}"
    logout_url = f"http://{signals}/signals/logout"
    with serving_oidc_provider({f"{origin}/mcp": "jwt"}, logout_url=logout_url) as provider:
        tables = tuple(
            _tables(provider.issuer, listen) for listen in (signals, f"127.0.0.1:{free_port()}")
        )
        with serving_replicas(folder, origin=origin, tables=tables) as replicas:
            yield Deployment(provider, replicas)


def _tables(issuer: str, listen: str) -> str:
    audiences = ", ".join(f'"{client}"' for client in REPORTED)
    return f"""
[[issuers]]
issuer = "{issuer}"
algorithms = ["ES256"]
discover = true
[signals]
listen = "{listen}"
[[signals.streams]]
issuer = "{issuer}"
audiences = [{audiences}]
"""


Ask = Callable[[str], Awaitable[str]]
"""Presents a token, and returns the reason why it is rejected; empty where it is accepted."""


@dataclass
class Chain:
    """All ways to call.

    Attributes:
        deployment: what it is of.
        stateful: a server of the official SDK that keeps sessions, behind the gate.
        stateless: likewise one that keeps none.
        gateway: a server behind Envoy.
        replicas: by name, each replica with calls or a stream.
        released: ends the calls of tool ``hold``.
    """

    deployment: Deployment
    stateful: Endpoint
    stateless: Endpoint
    gateway: Endpoint
    replicas: Mapping[str, AuthClient]
    released: anyio.Event

    async def connected(self, token: str) -> Connected:
        """Connect with a token in every way; no way rejects it."""
        ways: dict[str, Ask] = {
            "gate, 2026-07-28": lambda token: _modern(self.stateless, token),
            "Envoy, 2026-07-28": lambda token: _modern(self.gateway, token),
        }
        sessions = {}
        for name, endpoint in (("gate", self.stateful), ("Envoy", self.gateway)):
            sessions[name] = session = await opened(endpoint, token)
            ways[name] = _legacy(endpoint, session)
        for name, client in self.replicas.items():
            resolved = await client.create(token, resource=self.deployment.resource)
            assert resolved.session is not None
            ways[name] = self._resolving(client, resolved.session.id)
            ways[f"{name}, without a session"] = self._resolving(client, "")
        connected = Connected(token, sessions["gate"], ways)
        assert await connected.rejected() == {}
        return connected

    def _resolving(self, client: AuthClient, session: str) -> Ask:
        async def ask(token: str) -> str:
            try:
                await client.resolve(session, token, resource=self.deployment.resource)
            except AuthError as error:
                return error.reason.name
            return ""

        return ask


@dataclass
class Connected:
    """A token that has been used in every way.

    Attributes:
        token: the token.
        session: its session at the gate.
        ways: by name.
    """

    token: str = field(repr=False)
    session: str
    ways: Mapping[str, Ask]

    async def rejected(self, token: str = "") -> dict[str, str]:
        """The ways that reject it, or another token on its sessions, and why."""
        answers = {name: await ask(token or self.token) for name, ask in self.ways.items()}
        return {name: reason for name, reason in answers.items() if reason}

    async def check_ended(self) -> None:
        """Every way rejects it, once the replicas have heard of it: from then on."""
        everywhere = dict.fromkeys(self.ways, REVOKED)
        with anyio.fail_after(TIMEOUT_SECONDS):
            while await self.rejected() != everywhere:
                pass
        assert await self.rejected() == everywhere


async def _modern(endpoint: Endpoint, token: str) -> str:
    return _reason(await endpoint.modern("tools/call", WHOAMI, token=token))


def _legacy(endpoint: Endpoint, session: str) -> Ask:
    async def ask(token: str) -> str:
        return _reason(await endpoint.post(call("whoami"), session=session, token=token))

    return ask


def _reason(response: httpx2.Response) -> str:
    if response.status_code == 200:
        assert '"error"' not in response.text, response.text
        return ""
    assert response.status_code == 401, response.text
    assert "invalid_token" in response.headers["www-authenticate"]
    return str(response.json()["error"]["data"]["reason"])


@asynccontextmanager
async def chain_of(deployment: Deployment) -> AsyncIterator[Chain]:
    """All ways to call. The gates ask the replica that sign-outs are not reported to."""
    first, second = deployment.replicas.addresses
    tls, released = deployment.replicas.calls, anyio.Event()
    async with AsyncExitStack() as stack:

        async def client(address: str, *, streams: bool) -> AuthClient:
            made = AuthClient(address, deadline_seconds=TIMEOUT_SECONDS, streams=streams, tls=tls)
            return await stack.enter_async_context(made)

        async def gate(*, stateful: bool) -> Endpoint:
            app = SessionGate(
                sdk_server(released).streamable_http_app(stateless_http=not stateful),
                resolver=await client(second, streams=True),
                resource=deployment.resource,
                authorization_servers=[deployment.provider.issuer],
                stateful=stateful,
                streams=stateful,
            )
            return await endpoint(await stack.enter_async_context(running(app)))

        async def endpoint(url: str) -> Endpoint:
            made = httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS)
            http = await stack.enter_async_context(made)
            return Endpoint(http, MemoryResolver(), Meeting())

        replicas = {
            f"{name} replica, {'stream' if streams else 'calls'}": await client(
                address, streams=streams
            )
            for name, address in (("first", first), ("second", second))
            for streams in (False, True)
        }
        stateful, stateless = await gate(stateful=True), await gate(stateful=False)
        gateway = await endpoint(deployment.replicas.gateway.origin)
        yield Chain(deployment, stateful, stateless, gateway, replicas, released)
        released.set()


def sdk_server(released: anyio.Event) -> MCPServer:
    """A server whose tools know their caller; ``hold`` waits for an event."""
    server = MCPServer("signed-out")

    @server.tool()
    async def whoami(ctx: Context) -> str:
        principal = current_caller(ctx.request_context.request).principal
        return principal.subject if principal else "nobody"

    @server.tool()
    async def hold(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        await released.wait()
        return "released"

    return server


async def after(moment: float) -> None:
    """Return once tokens are issued in a later second than that of a moment: times of tokens are
    whole seconds, and a sign-out ends those of its own."""
    with anyio.fail_after(TIMEOUT_SECONDS):
        while int(time.time()) <= moment:
            await anyio.lowlevel.checkpoint()
