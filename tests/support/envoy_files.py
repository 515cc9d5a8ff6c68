"""Envoy's configuration in deploy/envoy and examples/: read, installed, judged by Envoy itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs
from cryptography import x509

from authsvc.net.certificates import issue, make_authority
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.envoy import EXECUTABLE
from tests.support.processes import ROOT

FOLDER = ROOT / "deploy" / "envoy"
EXAMPLE = ROOT / "examples" / "behind_envoy" / "envoy.yaml"
INSTALLED = "/etc/envoy"


def faults_of(file: Path) -> str:
    """What Envoy finds wrong with a configuration; empty for nothing. Skips where there is none."""
    if not EXECUTABLE.exists():
        pytest.skip("there is no Envoy for this machine")
    done = subprocess.run(
        [EXECUTABLE, "--mode", "validate", "--config-path", str(file)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


def loaded(path: Path) -> dict[str, Any]:
    configuration: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return configuration


def manager_of(configuration: dict[str, Any]) -> dict[str, Any]:
    (listener,) = configuration["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    (manager,) = chain["filters"]
    typed: dict[str, Any] = manager["typed_config"]
    return typed


def host_of(configuration: dict[str, Any]) -> dict[str, Any]:
    (host,) = manager_of(configuration)["route_config"]["virtual_hosts"]
    found: dict[str, Any] = host
    return found


def check_of(configuration: dict[str, Any]) -> dict[str, Any]:
    check, router = manager_of(configuration)["http_filters"]
    assert router["name"] == "envoy.filters.http.router"
    typed: dict[str, Any] = check["typed_config"]
    return typed


def clusters_of(configuration: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {it["name"]: it for it in configuration["static_resources"]["clusters"]}


def installed(folder: Path) -> Path:
    """The files as they are on a gateway, with certificates: the folder is its /etc/envoy."""
    authority = make_authority("CA", days=1)
    (folder / "authsvc-ca.pem").write_bytes(authority.certificate_pem())
    name = x509.UniformResourceIdentifier("spiffe://example.com/gateway")
    gateway = issue(authority, "gateway", [name], days=1)
    (folder / "gateway.pem").write_bytes(gateway.certificate_pem())
    (folder / "gateway.key").write_bytes(gateway.key_pem())
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text(encoding="utf-8").replace(INSTALLED, str(folder))
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder / "envoy.yaml"
