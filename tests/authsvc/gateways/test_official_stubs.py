"""Envoy's official stubs make the requests and read the responses: the subset is Envoy's own proto
on the wire."""

from __future__ import annotations

import asyncio
import base64
import json
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.checks import LEGACY, rpc, tool_call, with_gateways
from tests.support.clock import Clock
from tests.support.processes import ROOT
from tests.support.service import serving, settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

PYTHON = ROOT / "var" / "official-stubs" / "bin" / "python"
LOCK = Path("tests/authsvc/gateways/official/requirements.lock")
SCRIPT = Path(__file__).with_name("official") / "exchange.py"

ROUTE = {
    "resource": RESOURCE,
    "adopt_sessions": False,
    "authorization_servers": [ISSUER],
    "credentials": True,
    "tools": {"delete": ["objects.write"]},
}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def check(
    body: dict[str, object] | None, *, method: str = "POST", form: str = "raw", **more: str
) -> dict[str, Any]:
    """A CheckRequest as proto JSON, with all that Envoy fills in."""
    content = "" if body is None else json.dumps(body)
    path = more.pop("path", "/mcp?x=1")
    headers = {
        ":authority": "mcp.example",
        ":method": method,
        ":path": path,
        ":scheme": "https",
        "content-length": str(len(content)),
        "content-type": "application/json",
        "mcp-protocol-version": LEGACY,
        "x-envoy-auth-partial-body": "false",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    http: dict[str, Any] = {
        "id": "1234567890",
        "method": method,
        "path": path,
        "host": "mcp.example",
        "scheme": "https",
        "protocol": "HTTP/1.1",
        "size": str(len(content)),
    }
    if form == "raw":
        listed = [{"key": name, "rawValue": encoded(value)} for name, value in headers.items()]
        http |= {"headerMap": {"headers": listed}, "rawBody": encoded(content)}
    else:
        http |= {"headers": headers, "body": content}
    peer = {"address": {"socketAddress": {"address": "10.0.0.9", "portValue": 4711}}}
    own = {"address": {"socketAddress": {"address": "10.0.0.1", "portValue": 8080}}}
    return {
        "attributes": {
            "source": {**peer, "principal": "spiffe://example/client"},
            "destination": own,
            "request": {"time": "2026-11-29T21:30:00Z", "http": http},
            "contextExtensions": {"resource": RESOURCE},
            "metadataContext": {"filterMetadata": {"x": {"a": 1}}},
            "tlsSession": {"sni": "mcp.example"},
        }
    }


async def exchange(address: str, *checks: dict[str, Any]) -> list[dict[str, Any]]:
    """The responses, as the official stubs read them."""
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-I", SCRIPT, address, stdin=PIPE, stdout=PIPE
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        output, _ = await process.communicate(json.dumps(checks).encode())
    assert process.returncode == 0
    answers = json.loads(output)
    # No field is one that they do not know.
    assert [answer["is_known"] for answer in answers] == [True] * len(checks)
    return [answer["response"] for answer in answers]


def headers_of(options: list[dict[str, Any]]) -> dict[str, str]:
    for option in options:
        assert option["append"] is False
        assert option["appendAction"] == "OVERWRITE_IF_EXISTS_OR_ADD"
    return {option["header"]["key"]: option["header"].get("value", "") for option in options}


async def test_the_official_stubs_understand_authsvc_and_it_them(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    if not PYTHON.exists():
        pytest.skip("Envoy's stubs are not installed; run: sh scripts/clients.sh .venv")
    assert PYTHON.parents[1].joinpath(LOCK.name).read_bytes() == (ROOT / LOCK).read_bytes()
    bearer = {"authorization": f"Bearer {idp.token()}"}
    settings = settings_for(tmp_path, idp, **with_gateways(ROUTE))
    async with serving(settings, clock) as service:
        (opened,) = await exchange(service.address, check(rpc("initialize"), **bearer))
        session = headers_of(opened["okResponse"]["responseHeadersToAdd"])["mcp-session-id"]
        in_session = {**bearer, "mcp_session_id": session}
        raw, text, open_, denied, forbidden, document, preflight, ended = await exchange(
            service.address,
            check(tool_call(), x_authsvc_other="forged", **in_session),
            check(tool_call(), form="text", x_authsvc_other="forged", **in_session),
            check(rpc("ping"), mcp_session_id=session),
            check(tool_call(), mcp_session_id=session),
            check(tool_call("delete"), **in_session),
            check(None, method="GET", path="/.well-known/oauth-protected-resource/mcp"),
            check(None, method="OPTIONS"),
            check(None, method="DELETE", **in_session),
        )
        forged = {"authorization": f"Bearer {idp.forged()}"}
        await exchange(service.address, check(rpc("initialize"), **forged))
    (event,) = (it for it in caplog.records if it.__dict__.get("event_type") == "TOKEN_REJECTED")
    assert event.__dict__["client_address"] == "10.0.0.9"
    assert raw == text
    assert raw["status"] == {}
    upstream = headers_of(raw["okResponse"]["headers"])
    assert {*upstream} == {"x-authsvc-assertion", "x-authsvc-credentials", "mcp-session-id"}
    assert upstream["mcp-session-id"] == session
    assert raw["okResponse"]["headersToRemove"] == ["authorization", "x-authsvc-other"]
    assert raw["dynamicMetadata"]["subject"] == "alice"
    assert raw["dynamicMetadata"]["scopes"] == ["buckets.read", "objects.read"]
    assert headers_of(open_["okResponse"]["headers"]) == {"mcp-session-id": session}
    assert "x-authsvc-assertion" in open_["okResponse"]["headersToRemove"]
    denials = (denied, forbidden, document, preflight, ended)
    statuses = [answer["deniedResponse"]["status"]["code"] for answer in denials]
    assert statuses == ["Unauthorized", "Forbidden", "OK", "NoContent", "NoContent"]
    assert all(answer["status"]["code"] for answer in denials)
    challenge = headers_of(denied["deniedResponse"]["headers"])["www-authenticate"]
    assert challenge.startswith("Bearer resource_metadata=")
    assert json.loads(denied["deniedResponse"]["body"])["error"]["code"] == 401
    assert json.loads(document["deniedResponse"]["body"])["resource"] == RESOURCE
