"""Credentials by name in users' tests: made requests, the fake resolver, authsvc in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from authsvc.client import AuthError, AwsCredentials, BearerCredentials, Principal, Reason
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.resolution import Secret
from mcp_adapter import NoCredentialsError, Requirement, SessionGate, caller
from mcp_adapter.testing import FakeResolver, InMemoryAuthsvc, as_caller

pytestmark = pytest.mark.anyio

RESOURCE = "https://mcp.example/mcp"
AWS = AwsCredentials("AKIA", Secret("secret"), None, "eu-west-1", expire_time=2e9)
OLD, NEW = (BearerCredentials(Secret(it), "Bearer", expire_time=2e9) for it in ("old", "new"))
ADA = Principal("https://idp.example", "ada", expire_time=2e9, buckets=("alpha",))


def renewed(wanted: CredentialRequest) -> BearerCredentials:
    return NEW if wanted.rejected == hashlib.sha256(b"old").digest() else OLD


NAMED: Mapping[str, Any] = {
    "api": OLD,
    "renewed": renewed,
    "refused": AuthError(Reason.CREDENTIALS_REFUSED, "by the exchange"),
    "none": None,
}


async def outcomes(request: Request) -> list[str]:
    """What each name gives the caller of a request."""
    who = caller(request)
    found: list[str] = []
    for name, options in (
        ("", {}),
        ("api", {}),
        ("api", {"buckets": ["alpha"]}),
        ("api", {"buckets": ["beta"]}),
        ("renewed", {}),
        ("renewed", {"rejected": OLD}),
        ("refused", {}),
        ("none", {}),
        ("unknown", {}),
    ):
        try:
            issued = await who.credentials(name, **options)
        except AuthError as error:
            found.append(error.reason.name)
        except NoCredentialsError:
            found.append("none")
        else:
            found.append(
                "aws" if isinstance(issued, AwsCredentials) else issued.access_token.reveal()
            )
    return found


EXPECTED = [
    *("aws", "old", "old", "CREDENTIALS_REFUSED", "old", "new", "CREDENTIALS_REFUSED"),
    *("none", "none"),
]


async def test_a_made_request_has_them() -> None:
    assert await outcomes(as_caller(ADA, credentials=AWS, named=NAMED)) == EXPECTED
    with pytest.raises(NoCredentialsError):
        await caller(as_caller("ada")).credentials()


def served(resolver: FakeResolver | InMemoryAuthsvc, token: str, **options: Any) -> list[str]:  # noqa: ANN401 - of the gate
    """The outcomes of a request with a token, behind a gate."""

    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse({"jsonrpc": "2.0", "id": 1, "result": await outcomes(request)})

    app = Starlette(routes=[Route("/mcp", endpoint, methods=["POST"])])
    gate = SessionGate(
        app,
        resolver=resolver,
        resource=RESOURCE,
        requirement=lambda method, params: Requirement(),
        **options,
    )
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/list",
    }
    with TestClient(gate, base_url="https://mcp.example") as http:
        answer = http.post("/mcp", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    result = json.loads(answer.text)["result"]
    assert isinstance(result, list)
    return result


@pytest.mark.parametrize("when", ["with_request", "on_demand"])
def test_the_fake_resolver_has_them(when: str) -> None:
    resolver = FakeResolver()
    token = resolver.issue(ADA, credentials=AWS, named=NAMED)
    assert served(resolver, token, credentials=when) == EXPECTED
    others = resolver.issue(ADA)
    assert set(served(resolver, others)) == {"none", "CREDENTIALS_REFUSED"}


@pytest.mark.parametrize("when", ["with_request", "on_demand"])
def test_authsvc_in_memory_has_them(when: str) -> None:
    asked: list[str] = []

    def api(principal: Principal) -> BearerCredentials:
        asked.append(principal.subject)
        return OLD

    named: dict[str, Callable[[Principal], Any]] = {
        "api": api,
        "renewed": api,
        "none": lambda principal: None,
    }
    authsvc = InMemoryAuthsvc(RESOURCE, credentials=lambda principal: AWS, named=named)
    found = served(authsvc, authsvc.token("ada"), credentials=when)
    refused, invalid = "CREDENTIALS_REFUSED", "ARGUMENT_INVALID"
    assert found == ["aws", "old", refused, refused, "old", "old", invalid, "none", invalid]
    assert set(asked) == {"ada"}


def test_authsvc_in_memory_may_have_named_ones_alone() -> None:
    authsvc = InMemoryAuthsvc(RESOURCE, named={"api": lambda principal: OLD})
    assert served(authsvc, authsvc.token("ada"))[:2] == ["none", "old"]


@pytest.mark.parametrize(
    ("named", "error", "text"),
    [
        ({"a b": OLD}, ValueError, "a name is 1 to 64"),
        ({"": OLD}, ValueError, "a name is 1 to 64"),
        ({1: OLD}, TypeError, "named"),
        ({"api": "token"}, TypeError, r"named\['api'\]"),
        ({"api": lambda: OLD}, TypeError, r"named\['api'\]"),
        (OLD, TypeError, "named"),
    ],
)
def test_what_is_no_name_or_credentials_is_rejected(
    named: Any,  # noqa: ANN401 - what is wrong
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        as_caller("ada", named=named)
    with pytest.raises(error, match=text):
        FakeResolver().issue("ada", named=named)
    with pytest.raises(error, match=text):
        InMemoryAuthsvc(RESOURCE, named=named)
