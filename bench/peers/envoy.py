"""Envoy with jwt_authn, in front of an app."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.peers.apps import CLAIMS_HEADER
from bench.peers.idp import ISSUER, RESOURCE
from bench.processes import (
    LOG_SHOWN,
    POLL_SECONDS,
    START_SECONDS,
    ServerError,
    ServerProcess,
    ended,
)

_JWT = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network."
    "http_connection_manager.v3.HttpConnectionManager"
)


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def configuration(app: str, jwks: str, admin: Path) -> dict[str, object]:
    """What Envoy reads.

    Args:
        app: ``host:port`` of what it stands in front of.
        jwks: the issuer's public keys.
        admin: the Unix socket of its administration.
    """
    host, _, port = app.rpartition(":")
    verifies = {
        "@type": _JWT,
        "providers": {
            "idp": {
                "issuer": ISSUER,
                "audiences": [RESOURCE],
                "local_jwks": {"inline_string": jwks},
                "forward_payload_header": CLAIMS_HEADER,
            }
        },
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}}],
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "30s"}}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "mcp",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "jwt_authn", "typed_config": verifies},
            {"name": "router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    filters = [{"name": "http", "typed_config": manager}]
    endpoint = {"endpoint": {"address": _address(host, int(port))}}
    return {
        "admin": {"address": {"pipe": {"path": str(admin)}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "mcp",
                    "address": _address("127.0.0.1", 0),
                    "filter_chains": [{"filters": filters}],
                }
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        },
    }


@asynccontextmanager
async def envoy(folder: Path, app: str, jwks: str) -> AsyncIterator[ServerProcess]:
    """Envoy with one worker thread as a process, ended on the way out.

    Raises:
        ServerError: it is not installed, or did not start; the message says which.
    """
    executable = _executable()
    config, log, admin = folder / "envoy.json", folder / "envoy.log", folder / "envoy.sock"
    config.write_text(json.dumps(configuration(app, jwks, admin)), encoding="utf-8")
    arguments = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
    process = await asyncio.create_subprocess_exec(
        executable,
        *("-c", str(config), "--log-path", str(log), *arguments),
        stdin=DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (address := await _listens_at(admin)):
                if process.returncode is not None:
                    text = log.read_text(encoding="utf-8") if log.exists() else ""
                    raise ServerError(f"Envoy did not start: {text[-LOG_SHOWN:]}")
                await asyncio.sleep(POLL_SECONDS)
        yield ServerProcess(process.pid, address)
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process)


def _executable() -> Path:
    found = find_spec("envoy")
    if found is None or not found.submodule_search_locations:
        raise ServerError("Envoy is not installed; run: make bench-setup")
    return Path(found.submodule_search_locations[0]) / "_bin" / "envoy"


async def _listens_at(admin: Path) -> str:
    """Where the port 0 has turned out to be; empty before Envoy listens."""
    try:
        reader, writer = await asyncio.open_unix_connection(admin)
    except (FileNotFoundError, ConnectionRefusedError):
        return ""
    writer.write(b"GET /listeners HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    found = re.search(rb"^mcp::(\S+)", answer, re.MULTILINE)
    return found[1].decode("ascii") if found else ""
