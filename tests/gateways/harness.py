"""What the tests of gateways share: authsvc, upstreams, and a gateway in front of them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from anyio.from_thread import start_blocking_portal

from authsvc.client import AdminClient, ClientTls
from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.running import running as running_authsvc
from tests.gateways.configured import ASSERTING, Files, config
from tests.gateways.deployed import Configuration, admin_of, configuration, wait_longer
from tests.gateways.upstreams import MakeApp, Seen, Upstream, Verifier, fastmcp, official
from tests.mcp_adapter.harness import Endpoint, Meeting, MemoryResolver, call, message_of, running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.envoy import running_envoy
from tests.support.node import installed, spawn_node
from tests.support.tokens import IdentityProvider
from tests.support.valkey import free_port

IN_PYTHON: dict[str, MakeApp] = {
    "sdk-stateful": partial(official, stateless=False),
    "sdk-stateless": partial(official, stateless=True),
    "fastmcp-stateful": partial(fastmcp, stateless=False),
    "fastmcp-stateless": partial(fastmcp, stateless=True),
}
IN_TYPESCRIPT = {"typescript-stateful": "v1", "typescript-stateless": "v2"}
KINDS = (*IN_PYTHON, *IN_TYPESCRIPT)
"""The kinds of upstreams."""


@dataclass(frozen=True)
class Started:
    """A running upstream.

    Attributes:
        url: where it listens.
        upstream: what its tools share; None for one of another language.
    """

    url: str
    upstream: Upstream | None


def started(
    kind: str,
    stack: ExitStack,
    *,
    jwks: str,
    issuer: str,
    resource: str,
    clock: Callable[[], float],
) -> Started:
    """Start an upstream that verifies assertions.

    Args:
        kind: one of ``KINDS``.
        stack: ends it.
        jwks: URL of authsvc's keys.
        issuer: the authsvc.
        resource: what the upstream is called.
        clock: of one in Python.
    """
    if kind in IN_TYPESCRIPT:
        installed("jose")
        arguments = (IN_TYPESCRIPT[kind], jwks, issuer, resource)
        process = stack.enter_context(spawn_node("upstream.mjs", *arguments))
        address = process.wait_for("listening on", TIMEOUT_SECONDS)["address"]
        return Started(f"http://{address}", None)
    upstream = Upstream(Verifier(jwks, issuer, resource, clock))
    app = upstream.recording(IN_PYTHON[kind](upstream))
    portal = stack.enter_context(start_blocking_portal())
    return Started(stack.enter_context(portal.wrap_async_context_manager(running(app))), upstream)


@dataclass(frozen=True)
class Authsvc:
    """A running authsvc.

    Attributes:
        address: where it listens.
        jwks: URL of its keys.
        tls: how an operator calls it.
    """

    address: str
    jwks: str
    tls: ClientTls

    def operated(self) -> AdminClient:
        """A client of an operator."""
        return AdminClient(self.address, deadline_seconds=TIMEOUT_SECONDS, tls=self.tls)


@dataclass(frozen=True)
class Gateway:
    """Envoy in front of an upstream, with an authsvc that it asks.

    Attributes:
        kind: of the upstream.
        resource: URL of the upstream's endpoint, as clients know it.
        origin: where Envoy listens.
        idp: who issues tokens.
        authsvc: whom Envoy asks.
        upstream: what the upstream's tools share; None for one of another language.
        log: the file of Envoy's access log.
        admin: the socket of Envoy's administration.
    """

    kind: str
    resource: str
    origin: str
    idp: IdentityProvider
    authsvc: Authsvc
    upstream: Upstream | None
    log: Path
    admin: Path

    @property
    def seen(self) -> list[Seen]:
        """The requests that reached an upstream in Python."""
        assert self.upstream is not None
        return self.upstream.seen

    def token(self, subject: str = "alice", role: str = "reader", **claims: object) -> str:
        """A token for the resource."""
        return self.idp.token(subject, claims={"aud": self.resource, "roles": [role], **claims})

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Endpoint]:
        """A client that speaks raw HTTP."""
        async with httpx2.AsyncClient(base_url=self.origin, timeout=TIMEOUT_SECONDS) as http:
            yield Endpoint(http, MemoryResolver(), Meeting())


def unchanged(configuration: Configuration) -> None:
    """Envoy as it is deployed."""


@contextmanager
def serving(
    kind: str,
    folder: Path,
    *,
    clock: Callable[[], float] = time.time,
    change: Callable[[Configuration], None] = unchanged,
    tables: str = "",
    **route: object,
) -> Iterator[Gateway]:
    """Run authsvc, in this process, an upstream, and Envoy.

    Args:
        kind: of the upstream; one of ``KINDS``.
        folder: for files.
        clock: of authsvc, the tokens and an upstream in Python.
        change: changes the configuration of Envoy.
        tables: further tables of authsvc's configuration.
        route: what the resource's route sets.
    """
    idp, files = IdentityProvider(clock), Files(folder)
    files.write(idp)
    port, jwks_port, own_port = (free_port() for _ in range(3))
    origin = f"http://127.0.0.1:{port}"
    resource = f"{origin}/mcp"
    path = config(
        files,
        idp,
        resource=resource,
        port=own_port,
        jwks_port=jwks_port,
        route=route,
        tables=tables,
    )
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        settings = load(Settings, path)
        running = running_authsvc(settings, clock=clock)
        stack.enter_context(portal.wrap_async_context_manager(running))
        authsvc = Authsvc(f"localhost:{own_port}", jwks_url(jwks_port), files.operator)
        upstream = started(
            kind, stack, jwks=authsvc.jwks, issuer=ASSERTING, resource=resource, clock=clock
        )
        configured = configuration(
            folder,
            origin=origin,
            resource=resource,
            authsvc=authsvc.address,
            upstream=upstream.url,
        )
        wait_longer(configured)
        change(configured)
        log = stack.enter_context(running_envoy(configured, folder))
        admin = admin_of(folder, origin)
        yield Gateway(kind, resource, origin, idp, authsvc, upstream.upstream, log, admin)


def jwks_url(port: int) -> str:
    """Where an authsvc publishes its keys."""
    return f"http://127.0.0.1:{port}/.well-known/jwks.json"


def said(response: httpx2.Response) -> Any:  # noqa: ANN401 - JSON
    """What a tool returned."""
    result = message_of(response)["result"]
    assert not result.get("isError"), result
    return json.loads(result["content"][0]["text"])


async def asked(client: Endpoint, session: str, token: str | None = None) -> httpx2.Response:
    """The answer to a call of ``whoami``."""
    return await client.post(call("whoami"), session=session, token=token)


async def who(client: Endpoint, session: str, token: str) -> tuple[str, list[str]]:
    """Whom the upstream takes the caller for."""
    claims = said(await asked(client, session, token))
    return claims["sub"], claims["roles"]


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """The status, and the reason."""
    return response.status_code, response.json()["error"].get("data", {}).get("reason", "")
