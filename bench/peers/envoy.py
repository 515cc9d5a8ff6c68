"""Envoy in front of an app: with jwt_authn, or with ext_authz towards authsvc."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Mapping
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
_EXT_AUTHZ = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network."
    "http_connection_manager.v3.HttpConnectionManager"
)

_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}

AUTHSVC = "authsvc"
"""The cluster that is asked."""

MAX_BODY_BYTES = 1_048_576
"""Longest body that is sent to authsvc; longer ones are answered 413."""


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def jwt_authn(jwks: str) -> dict[str, object]:
    """A filter that verifies tokens, and names the caller in a header.

    Args:
        jwks: the issuer's public keys.
    """
    provider = {
        "issuer": ISSUER,
        "audiences": [RESOURCE],
        "local_jwks": {"inline_string": jwks},
        "forward_payload_header": CLAIMS_HEADER,
    }
    return {
        "@type": _JWT,
        "providers": {"idp": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}}],
    }


def ext_authz() -> dict[str, object]:
    """A filter that has authsvc check each request, with its body."""
    return {
        "@type": _EXT_AUTHZ,
        "transport_api_version": "V3",
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "encode_raw_headers": True,
        "with_request_body": {"max_request_bytes": MAX_BODY_BYTES, "pack_as_bytes": True},
        "grpc_service": {"envoy_grpc": {"cluster_name": AUTHSVC}, "timeout": "5s"},
    }


def configuration(
    app: str, filter_: Mapping[str, object], admin: Path, authsvc: str = ""
) -> dict[str, object]:
    """What Envoy reads.

    Args:
        app: ``host:port`` of what it stands in front of.
        filter_: authorises requests.
        admin: the Unix socket of its administration.
        authsvc: ``host:port`` of what the filter asks; empty for none.
    """
    route: dict[str, object] = {
        "match": {"prefix": "/"},
        "route": {"cluster": "app", "timeout": "30s"},
    }
    if authsvc:
        names = {
            "@type": f"{_EXT_AUTHZ}PerRoute",
            "check_settings": {"context_extensions": {"resource": RESOURCE}},
        }
        route["typed_per_filter_config"] = {"authorization": names}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "mcp",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "authorization", "typed_config": filter_},
            {"name": "router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    listener = {
        "name": "mcp",
        "address": _address("127.0.0.1", 0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    clusters = [_cluster("app", app)]
    if authsvc:
        clusters.append({**_cluster(AUTHSVC, authsvc), "typed_extension_protocol_options": _HTTP2})
    return {
        "admin": {"address": {"pipe": {"path": str(admin)}}},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _cluster(name: str, address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    endpoint = {"endpoint": {"address": _address(host, int(port))}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


@asynccontextmanager
async def envoy(
    folder: Path, name: str, configured: Mapping[str, object], admin: Path
) -> AsyncIterator[ServerProcess]:
    """Envoy with one worker thread as a process, ended on the way out.

    Args:
        folder: for its files.
        name: of its files.
        configured: see ``configuration``.
        admin: its Unix socket there.

    Raises:
        ServerError: it is not installed, or did not start; the message says which.
    """
    executable = _executable()
    config, log = folder / f"{name}.json", folder / f"{name}.envoy.log"
    config.write_text(json.dumps(configured), encoding="utf-8")
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
