"""deploy/envoy for other gateways: their types, and the settings on which their safety rests.

None of these gateways runs here. Istio and the Gateway API are compiled against the types of their
own definitions; Envoy Gateway, agentgateway and Istio's mesh configuration have none to be had.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from mcp_adapter.gate.middleware import DEFAULT_MAX_BODY_BYTES
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.node import NODE, installed
from tests.support.processes import ROOT

FOLDER = ROOT / "deploy" / "envoy"
TOOLS = ROOT / "tests" / "deploy" / "tools"
TYPES = {
    "security.istio.io/v1": "@kubernetes-models/istio/security.istio.io/v1",
    "networking.istio.io/v1": "@kubernetes-models/istio/networking.istio.io/v1",
    "gateway.networking.k8s.io/v1": ("@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1"),
}
METADATA = "/.well-known/oauth-protected-resource"
WHOLE_BODY = {
    "maxRequestBytes": DEFAULT_MAX_BODY_BYTES,
    "allowPartialMessage": False,
    "packAsBytes": True,
}

Manifest = dict[str, Any]


def documents(name: str) -> list[Manifest]:
    return [*yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))]


def spec(name: str, kind: str) -> dict[str, Any]:
    (found,) = (it["spec"] for it in documents(name) if it["kind"] == kind)
    return dict(found)


# Types.


def compiled(manifests: list[Manifest], folder: Path) -> str:
    """What the TypeScript compiler finds wrong; empty for nothing. Skips where the types are not
    installed.
    """
    if not (TOOLS / "node_modules" / "@kubernetes-models").is_dir():
        pytest.skip("the types are not installed; run: sh scripts/clients.sh .venv")
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    script = folder / "manifests.mts"
    script.write_text("".join(map(statement, manifests)))
    options = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--types", "")
    done = subprocess.run(
        [NODE, installed("typescript") / "bin" / "tsc", *options, script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.stdout + done.stderr


def statement(manifest: Manifest) -> str:
    fields = {name: it for name, it in manifest.items() if name not in {"apiVersion", "kind"}}
    module = json.dumps(TYPES[manifest["apiVersion"]])
    return f"new (await import({module})).{manifest['kind']}({json.dumps(fields)});\n"


def typed() -> list[Manifest]:
    every = [*documents("istio.yaml"), *documents("envoy-gateway.yaml")]
    return [it for it in every if it["apiVersion"] in TYPES]


def test_istio_and_the_gateway_api_know_every_field(tmp_path: Path) -> None:
    assert compiled(typed(), tmp_path) == ""
    assert [it["kind"] for it in typed()] == [
        *("AuthorizationPolicy", "DestinationRule", "VirtualService"),
        "HTTPRoute",
    ]


@pytest.mark.parametrize("change", [{"colour": "red"}, {"action": "CUSTOMS"}])
def test_a_field_that_is_not_there_and_a_wrong_value_are_found(
    change: dict[str, str], tmp_path: Path
) -> None:
    manifests = typed()
    manifests[0]["spec"].update(change)
    found = compiled(manifests, tmp_path)
    assert "colour" in found or "CUSTOMS" in found


# Each gateway: it fails closed, sends the whole body and all headers, and names the resource.


def test_istio() -> None:
    (mesh,) = documents("istio-mesh.yaml")
    (provider,) = mesh["meshConfig"]["extensionProviders"]
    check = provider["envoyExtAuthzGrpc"]
    assert check["failOpen"] is False
    assert check["statusOnError"] == "503"
    assert check["timeout"] == "2s"
    assert check["includeRequestBodyInCheck"] == WHOLE_BODY

    policy = spec("istio.yaml", "AuthorizationPolicy")
    assert (policy["action"], policy["provider"]["name"]) == ("CUSTOM", provider["name"])
    ((to,),) = (rule["to"] for rule in policy["rules"])
    assert set(to["operation"]) == {"hosts"}
    route = spec("istio.yaml", "VirtualService")
    assert set(route["hosts"]) <= set(to["operation"]["hosts"])
    (served,) = route["http"]
    assert {"uri": {"prefix": METADATA}} in served["match"]
    assert served["timeout"] == "600s"

    destination = spec("istio.yaml", "DestinationRule")
    assert destination["host"] == check["service"]
    assert destination["trafficPolicy"]["tls"]["mode"] == "MUTUAL"
    assert destination["trafficPolicy"]["tls"]["subjectAltNames"] == [check["service"]]


def test_envoy_gateway() -> None:
    policy = spec("envoy-gateway.yaml", "SecurityPolicy")
    check = policy["extAuth"]
    assert check["failOpen"] is False
    assert check["statusOnError"] == 503
    assert check["bodyToExtAuth"] == {"maxRequestBytes": DEFAULT_MAX_BODY_BYTES}
    assert "headersToExtAuth" not in check
    (context,) = check["contextExtensions"]
    assert (context["name"], context["type"]) == ("resource", "Value")
    (reference,) = check["grpc"]["backendRefs"]
    backend = spec("envoy-gateway.yaml", "Backend")
    assert reference["kind"] == "Backend"
    assert {"sni", "caCertificateRefs", "clientCertificateRef"} <= set(backend["tls"])
    (rule,) = spec("envoy-gateway.yaml", "HTTPRoute")["rules"]
    assert METADATA in {it["path"]["value"] for it in rule["matches"]}
    assert rule["timeouts"] == {"request": "10m"}
    client = spec("envoy-gateway.yaml", "ClientTrafficPolicy")
    assert client["path"]["escapedSlashesAction"] == "RejectRequest"
    assert client["headers"]["withUnderscoresAction"] == "RejectRequest"


def test_agentgateway() -> None:
    (configuration,) = documents("agentgateway.yaml")
    (route,) = configuration["binds"][0]["listeners"][0]["routes"]
    check = route["policies"]["extAuthz"]
    assert check["failureMode"] == {"denyWithStatus": 503}
    assert check["includeRequestBody"] == WHOLE_BODY
    assert set(check["protocol"]["grpc"]["context"]) == {"resource"}
    assert "includeRequestHeaders" not in check
    assert "cache" not in check
    assert {"cert", "key", "root", "hostname"} <= set(check["policies"]["backendTLS"])
    assert {"path": {"pathPrefix": METADATA}} in route["matches"]
    assert set(route["backends"][0]) == {"host"}


def test_agentgateways_guardrails() -> None:
    (configuration,) = documents("agentgateway-guardrails.yaml")
    (route,) = configuration["binds"][0]["listeners"][0]["routes"]
    (backend,) = route["backends"]
    (asks,) = backend["policies"]["mcpGuardrails"]["processors"]
    assert asks["failureMode"] == "failClosed"
    assert asks["methods"] == {"*": "request"}
    # A string of CEL.
    assert json.loads(asks["metadata"]["resource"]) == "https://mcp.example.com/mcp"
    assert "requestHeaders" not in asks
    assert {"cert", "key", "root", "hostname"} <= set(asks["policies"]["backendTLS"])
