"""The upstreams believe an assertion of authsvc's, and no other: otherwise the tests of this folder
could not fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import jwt
import pytest

from tests.gateways.harness import KINDS, started
from tests.mcp_adapter.harness import call, message_of, request
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, serving_http
from tests.support.keys import Signer, jwks, signer

AUTHSVC = "https://authsvc.example"
RESOURCE = "https://mcp.example/mcp"
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def key() -> Signer:
    return signer("first")


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest, key: Signer) -> Iterator[str]:
    """An upstream that no gateway is in front of."""
    with ExitStack() as running:
        site = running.enter_context(serving_http())
        site.answers["/jwks"] = Answer(jwks(key))
        how = {"jwks": f"{site.url}/jwks", "issuer": AUTHSVC, "resource": RESOURCE}
        yield started(request.param, running, clock=time.time, **how).url


def assertion(key: Signer, *, typ: str | None = "authsvc-assertion+jwt", **claims: object) -> str:
    now = time.time()
    payload = {
        "iss": AUTHSVC,
        "aud": RESOURCE,
        "sub": "alice",
        "idp": "https://idp.example",
        "iat": int(now) - 1,
        "exp": int(now) + 50,
        **claims,
    }
    headers = {"kid": key.kid, "typ": typ}
    return jwt.encode(
        {k: v for k, v in payload.items() if v is not None}, key.key, "ES256", headers
    )


def whoami(url: str, **headers: str) -> Any:  # noqa: ANN401 - JSON
    """The tool's result, in a session where the server keeps them."""
    with httpx2.Client(base_url=url, headers=ACCEPT, timeout=TIMEOUT_SECONDS) as http:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
        client = {"clientInfo": {"name": "test", "version": "1"}}
        opened = http.post("/mcp", json=request("initialize", {**hello, **client}))
        assert opened.status_code == 200, opened.text
        if session := opened.headers.get("mcp-session-id"):
            headers["Mcp-Session-Id"] = session
        answer = message_of(http.post("/mcp", json=call("whoami"), headers=headers))
    return answer["result"]


def test_it_believes_what_is_valid(url: str, key: Signer) -> None:
    said = whoami(url, **{"X-Authsvc-Assertion": assertion(key)})

    assert json.loads(said["content"][0]["text"])["sub"] == "alice"


def test_nobody_is_nobody(url: str) -> None:
    assert json.loads(whoami(url)["content"][0]["text"]) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example/mcp"},
        {"iss": "https://idp.example"},
        {"exp": 1_000_000_000, "iat": 1_000_000_000 - 50},
        {"exp": None},
        {"typ": "JWT"},
    ],
    ids="".join,
)
def test_it_believes_nothing_else(url: str, key: Signer, claims: dict[str, Any]) -> None:
    said = whoami(url, **{"X-Authsvc-Assertion": assertion(key, **claims)})

    assert said["isError"], said


def test_it_believes_no_other_key(url: str, key: Signer) -> None:
    for other in (signer(key.kid), signer("other")):
        assert whoami(url, **{"X-Authsvc-Assertion": assertion(other)})["isError"]
