"""From a 401 to a tool's answer: the official client's OAuth flow, with a real server behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from mcp.shared.exceptions import MCPError
from pydantic import AnyUrl

from tests.clients.harness import BUCKETS, DEADLINE_SECONDS, KEYS, MODERN, OF_ANALYST, SCOPES, Stack
from tests.support.node import run_node

pytestmark = pytest.mark.anyio

MODES = ["legacy", "auto"]
CALLBACK = "http://127.0.0.1/callback"


@dataclass
class Storage:
    """What a client remembers."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass
class Person:
    """Somebody with a browser, who logs in when asked.

    Attributes:
        role: what they log in as.
        asked: the scopes that were asked for, at each login.
    """

    subject: str = "ada"
    role: str = "reader"
    asked: list[set[str]] = field(default_factory=list)
    _callback: httpx2.URL = field(default_factory=lambda: httpx2.URL(CALLBACK))

    async def log_in(self, url: str) -> None:
        """Follow the client's redirect, fill in the form, and end at the client's callback."""
        self.asked.append(set(httpx2.URL(url).params["scope"].split()))
        async with httpx2.AsyncClient(timeout=DEADLINE_SECONDS) as browser:
            page = await browser.get(url, follow_redirects=True)
            assert "Log in" in page.text
            form = {"subject": self.subject, "role": self.role}
            answer = await browser.post(page.url, data=form)
            while not (location := answer.headers["location"]).startswith(CALLBACK):
                answer = await browser.get(location)
        self._callback = httpx2.URL(location)

    async def come_back(self) -> AuthorizationCodeResult:
        params = self._callback.params
        return AuthorizationCodeResult(
            code=params["code"], state=params["state"], iss=params["iss"]
        )


@asynccontextmanager
async def connected(
    stack: Stack, mode: str, person: Person, storage: Storage
) -> AsyncIterator[tuple[Client, OAuthClientProvider]]:
    """The official client, which has nothing but the endpoint's URL and a person."""
    oauth = OAuthClientProvider(
        stack.url,
        OAuthClientMetadata(redirect_uris=[AnyUrl(CALLBACK)], client_name="tests"),
        storage,
        redirect_handler=person.log_in,
        callback_handler=person.come_back,
    )
    async with httpx2.AsyncClient(auth=oauth, timeout=DEADLINE_SECONDS) as http:
        transport = streamable_http_client(stack.url, http_client=http)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with Client(transport, mode=mode) as client:
                yield client, oauth


async def buckets(client: Client) -> list[str]:
    answer = await client.call_tool("discover_buckets", {})
    return [bucket["name"] for bucket in answer.structured_content["buckets"]]


async def keys(client: Client) -> list[str]:
    answer = await client.call_tool("bucket_objects_list", {"bucket": "s3://shelf-00"})
    return [item["key"] for item in answer.structured_content["objects"]]


def claims(storage: Storage) -> dict[str, Any]:
    """What is in the access token that a client holds."""
    assert storage.tokens is not None
    token = storage.tokens.access_token
    # RFC 9068 section 2.1.
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


@pytest.mark.parametrize("mode", MODES)
async def test_from_401_to_an_answer_and_a_step_up(stack: Stack, mode: str) -> None:
    person, storage = Person(), Storage()
    async with connected(stack, mode, person, storage) as (client, _):
        # Connecting and listing ask for nobody.
        assert (await client.list_tools()).tools
        assert person.asked == []

        # 401: the challenge names the metadata and the scope; a login follows, and the answer.
        assert await buckets(client) == BUCKETS
        assert [asked & set(SCOPES) for asked in person.asked] == [{"buckets.read"}]
        first = claims(storage)
        assert (first["aud"], first["scope"]) == (stack.url, "buckets.read")

        # 403 insufficient_scope: the client asks for both, and repeats the call.
        assert await keys(client) == KEYS
        assert [asked & set(SCOPES) for asked in person.asked[1:]] == [set(SCOPES)]
        assert claims(storage)["sub"] == first["sub"]

        # What it may now is not forgotten.
        assert await buckets(client) == BUCKETS
        assert len(person.asked) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_a_refresh_needs_nobody(stack: Stack, mode: str) -> None:
    person, storage = Person("grace"), Storage()
    async with connected(stack, mode, person, storage) as (client, oauth):
        assert await buckets(client) == BUCKETS
        first = claims(storage)
        oauth.context.token_expiry_time = 1.0  # as its clock will say in ten minutes
        assert await buckets(client) == BUCKETS

    assert claims(storage)["jti"] != first["jti"]
    assert len(person.asked) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_another_role_is_another_login(stack: Stack, mode: str) -> None:
    person, storage = Person("joan"), Storage()
    async with connected(stack, mode, person, storage) as (client, oauth):
        assert await buckets(client) == BUCKETS
        person.role = "analyst"
        oauth.context.clear_tokens()
        assert await buckets(client) == OF_ANALYST

    assert len(person.asked) == 2
    assert claims(storage)["sub"] == "joan"


async def test_somebody_else_does_not_get_into_a_session(stack: Stack) -> None:
    person, storage = Person("ada"), Storage()
    async with connected(stack, "legacy", person, storage) as (client, oauth):
        assert await buckets(client) == BUCKETS
        person.subject = "mallory"
        oauth.context.clear_tokens()
        with pytest.raises(MCPError) as caught:
            await buckets(client)

    assert caught.value.error.message == "There is no such session."


@pytest.mark.parametrize(
    ("sdk", "mode", "stepped_up"),
    [
        # The first generation asks for what was missing alone, and so lets go of the rest.
        ("v1", "legacy", {"objects.read"}),
        ("v2", "legacy", {"buckets.read", "objects.read"}),
        ("v2", "auto", {"buckets.read", "objects.read"}),
        ("v2", MODERN, {"buckets.read", "objects.read"}),
    ],
)
async def test_the_typescript_sdk_does_the_same(
    stack: Stack, sdk: str, mode: str, stepped_up: set[str]
) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        answer = await run_node("oauth.mjs", sdk, mode, stack.url, "ken", "reader")

    assert list(map(set, answer["asked"])) == [{"buckets.read"}, stepped_up]
    assert answer["buckets"] == BUCKETS
    assert answer["keys"] == KEYS
