"""``deploy/envoy/`` as its users have it: only addresses, and the names of files, are others.

Most tests wait longer for authsvc, too (``wait_longer``): a busy machine is no outage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT

DEPLOYED = ROOT / "deploy" / "envoy"
EXT_AUTHZ = "envoy.filters.http.ext_authz"

Configuration = dict[str, Any]

_LOCAL = "address: 127.0.0.1, port_value:"


def configuration(
    folder: Path, *, origin: str, resource: str, authsvc: str, upstream: str
) -> Configuration:
    """The configuration of Envoy, whose files are in ``folder``.

    Args:
        folder: has ``authsvc-ca.pem``, and ``gateway.pem`` and ``gateway.key`` of Envoy. It gets
            the file that names these two.
        origin: where Envoy listens.
        resource: what it serves there.
        authsvc: ``localhost:port``.
        upstream: URL of what is served there.
    """
    files = {"/etc/envoy": str(folder)}
    addresses = {
        f"{{socket_address: {{{_LOCAL} 9901}}}}": f"{{pipe: {{path: {admin_of(folder, origin)}}}}}",
        f"{_LOCAL} 8080": f"{_LOCAL} {_port_of(origin)}",
        f"{_LOCAL} 3000": f"{_LOCAL} {_port_of(upstream)}",
        # By an address: localhost has one of IPv6, too.
        "address: authsvc.internal, port_value: 50051": f"{_LOCAL} {_port_of(f'//{authsvc}')}",
        "authsvc.internal": "localhost",
        "https://mcp.example.com/mcp": resource,
        "mcp.example.com": "127.0.0.1",
    }
    certificate = (DEPLOYED / "gateway-certificate.yaml").read_text(encoding="utf-8")
    (folder / "gateway-certificate.yaml").write_text(_with(certificate, files))
    text = (DEPLOYED / "envoy.yaml").read_text(encoding="utf-8")
    loaded: Configuration = yaml.safe_load(_with(text, files | addresses))
    return loaded


def admin_of(folder: Path, origin: str) -> Path:
    """The socket on which Envoy is administered."""
    return folder / str(_port_of(origin))


def wait_longer(configuration: Configuration) -> None:
    """Have Envoy wait for as long as a test does, and take no replica for unhealthy."""
    service, longest = ext_authz_of(configuration)["grpc_service"], f"{TIMEOUT_SECONDS:g}s"
    service["timeout"] = service["retry_policy"]["retry_back_off"]["max_interval"] = longest
    del cluster_of(configuration, "authsvc")["health_checks"]


def manager_of(configuration: Configuration) -> dict[str, Any]:
    """The connection manager of its listener."""
    (listener,) = configuration["static_resources"]["listeners"]
    (filters,) = listener["filter_chains"][0]["filters"]
    found: dict[str, Any] = filters["typed_config"]
    return found


def ext_authz_of(configuration: Configuration) -> dict[str, Any]:
    """Its external authorization."""
    (found,) = (it for it in manager_of(configuration)["http_filters"] if it["name"] == EXT_AUTHZ)
    inner: dict[str, Any] = found["typed_config"]
    return inner


def cluster_of(configuration: Configuration, name: str) -> dict[str, Any]:
    """One of its clusters."""
    clusters: list[dict[str, Any]] = configuration["static_resources"]["clusters"]
    (found,) = (cluster for cluster in clusters if cluster["name"] == name)
    return found


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, url
    return port


def _with(text: str, replacements: dict[str, str]) -> str:
    for page, here in replacements.items():
        assert page in text, f"{page} is no longer in the file"
        text = text.replace(page, here)
    return text
