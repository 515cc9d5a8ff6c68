"""The sides, each running: processes of its own, and where clients reach it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.peers.apps import Places
from bench.peers.envoy import configuration, envoy, ext_authz, jwt_authn
from bench.peers.idp import ISSUER, RESOURCE, Idp
from bench.processes import START_SECONDS, ServerError, ServerProcess, authsvc_server, ended
from bench.stage import NO_LIMITS, ext_authz_tables

NAMES = {
    "nobody": "SDK, its own sessions, no authorisation",
    "as_it_comes": "the same, as it comes: event streams",
    "stateless": "SDK without sessions, no authorisation",
    "pyjwt": "PyJWT in a middleware, SDK",
    "fastmcp": "FastMCP with JWTVerifier",
    "introspection": "SDK with TokenVerifier, RFC 7662",
    "behind_envoy": "Envoy jwt_authn, SDK",
    "checked": "Envoy ext_authz, authsvc, SDK",
    "gate": "SessionGate, SDK without sessions",
    "gate_unary": "the same, a call for each resolve",
    "adapter": "SessionGate, the adapter's transport",
}
"""Every side, as tables show it."""

OURS = ("checked", "gate", "gate_unary", "adapter")


@dataclass(frozen=True, slots=True)
class Side:
    """Something to be asked.

    Attributes:
        name: a key of ``NAMES``.
        address: ``host:port`` for clients.
        processes: all that serve, by what they are.
    """

    name: str
    address: str
    processes: Mapping[str, ServerProcess]

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each process so far."""
        return {name: process.cpu_seconds() for name, process in self.processes.items()}


@dataclass(frozen=True, slots=True)
class Peers:
    """All sides, running.

    Attributes:
        sides: by name.
        issuer: ``host:port`` of the introspection endpoint.
        authsvc: ``host:port``.
        idp: who signs the tokens.
    """

    sides: Mapping[str, Side]
    issuer: str
    authsvc: str
    idp: Idp


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Peers]:
    """Start all sides, and end them on the way out.

    Raises:
        ServerError: one did not start.
    """
    idp = Idp()
    places = Places(pem=idp.pem())
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(_app("issuer", places, folder))
        config = _authsvc_configuration(folder, idp)
        authsvc = await stack.enter_async_context(authsvc_server(config, folder / "authsvc.log"))
        places = replace(
            places,
            introspection=f"http://{issuer.address}/introspect",
            authsvc=authsvc.address,
        )
        apps = {name: await stack.enter_async_context(_app(name, places, folder)) for name in NAMES}
        proxies = {
            name: await stack.enter_async_context(_proxy(folder, name, apps, *asked))
            for name, asked in {
                "behind_envoy": (jwt_authn(idp.jwks()), ""),
                "checked": (ext_authz(), authsvc.address),
            }.items()
        }
        others: dict[str, dict[str, ServerProcess]] = {
            "introspection": {"issuer": issuer},
            **{name: {"authsvc": authsvc} for name in OURS},
        }
        sides = {
            name: Side(name, app.address, {"app": app, **others.get(name, {})})
            for name, app in apps.items()
        }
        for name, proxy in proxies.items():
            processes = {**sides[name].processes, "Envoy": proxy}
            sides[name] = Side(name, proxy.address, processes)
        yield Peers(sides, issuer.address, authsvc.address, idp)


@asynccontextmanager
async def _proxy(
    folder: Path,
    name: str,
    apps: Mapping[str, ServerProcess],
    filter_: Mapping[str, object],
    authsvc: str,
) -> AsyncIterator[ServerProcess]:
    admin = folder / f"{name}.sock"
    configured = configuration(apps[name].address, filter_, admin, authsvc)
    async with envoy(folder, name, configured, admin) as proxy:
        yield proxy


@asynccontextmanager
async def _app(name: str, places: Places, folder: Path) -> AsyncIterator[ServerProcess]:
    arguments = ("-m", "bench.peers.serve", name, json.dumps(asdict(places)))
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=PIPE, stdout=PIPE, stderr=log, start_new_session=True
        )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise ServerError(f"the app {name} did not start")
        yield ServerProcess(process.pid, line.decode().strip())
    finally:
        process.stdin.close()
        await ended(process)


def _authsvc_configuration(folder: Path, idp: Idp) -> Path:
    jwks, path = folder / "jwks.json", folder / "authsvc.toml"
    jwks.write_text(idp.jwks(), encoding="utf-8")
    path.write_text(
        f"""\
listen = "127.0.0.1:0"
resources = [{json.dumps(RESOURCE)}]
log_format = "json"
drain_seconds = 0
max_connection_age_seconds = 0
{NO_LIMITS}
[store]
path = {json.dumps(str(folder / "sessions.db"))}

[[issuers]]
issuer = {json.dumps(ISSUER)}
jwks_file = {json.dumps(str(jwks))}
algorithms = ["RS256"]
{ext_authz_tables(folder)}""",
        encoding="utf-8",
    )
    return path
