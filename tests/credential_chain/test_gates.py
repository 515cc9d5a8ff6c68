"""Callers at once, each of whom changes tokens, behind the gate: a tool has the credentials of the
request that it serves, and no other's. They are real ones, of a real authsvc."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp.server.mcpserver import Context, MCPServer
from starlette.requests import Request
from starlette.types import ASGIApp

from authsvc.client import CredentialRequest
from mcp_adapter import NoCredentialsError, SessionGate, caller, current_caller
from tests.credential_chain.world import (
    BUCKETS,
    ISSUERS,
    Token,
    World,
    a_world,
    replicas,
    secret_of,
)
from tests.mcp_adapter.harness import (
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    message_of,
    opened,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.mint import Issued
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

CALLERS = 40
"""For each of two frameworks, in each of two ways."""

Way = Literal["with_request", "on_demand"]

ASKED = (
    CredentialRequest("chat"),
    CredentialRequest("aws", BUCKETS[:1]),
    CredentialRequest("mail"),
    CredentialRequest("dev"),
    CredentialRequest("aws", BUCKETS[1:]),
)


async def asked_for(request: Request | None) -> str:
    """What a tool gets, one after the other, while others get theirs."""
    assert request is not None
    who, found = caller(request), []
    with_request = current_caller(request).credentials
    found.append(None if with_request is None else secret_of(with_request))
    for wanted in ASKED:
        try:
            found.append(secret_of(await who.credentials(wanted.name, buckets=wanted.buckets)))
        except NoCredentialsError:
            found.append(None)
    return json.dumps([who.subject, found])


def official(*, stateless: bool) -> ASGIApp:
    """The official SDK."""
    server = MCPServer("official")

    @server.tool()
    async def use(ctx: Context) -> str:
        return await asked_for(ctx.request_context.request)

    return server.streamable_http_app(stateless_http=stateless)


def fastmcp(*, stateless: bool) -> ASGIApp:
    """FastMCP."""
    server = FastMCP("fastmcp")

    @server.tool
    async def use() -> str:
        return await asked_for(get_http_request())

    return server.http_app(stateless_http=stateless)


@pytest.fixture
def world(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # A busy machine takes longer than an endpoint may, or the check of a stream's caller.
    monkeypatch.setattr("mcp_adapter.gate.caller_checks.ANSWER_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.resolver.issuing.OTHERS_WAIT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.credentials.sts.CALL_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.credentials.aws.READ_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.net.fetching.CONNECT_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    with a_world(clock) as made:
        yield made


def result_of(response: httpx2.Response) -> list[Any]:
    """What the tool has returned."""
    message = message_of(response)
    assert "error" not in message, message
    result = message["result"]
    assert not result.get("isError"), result
    found: list[Any] = json.loads(result["content"][0]["text"])
    return found


@pytest.mark.parametrize("make", [official, fastmcp])
@pytest.mark.parametrize(("era", "way"), [("legacy", "on_demand"), ("modern", "with_request")])
async def test_each_tool_has_those_of_its_own_request(
    make: Callable[..., ASGIApp], era: str, way: Way, world: World, tmp_path: Path
) -> None:
    is_modern = era == "modern"
    expected: Counter[Issued] = Counter()

    async def use(http: Endpoint, session: str, token: Token) -> None:
        response = await (
            http.modern("tools/call", {"name": "use", "arguments": {}}, token=token.text)
            if is_modern
            else http.post(call("use", request_id=token.jti), session=session, token=token.text)
        )
        subject, found = result_of(response)
        assert subject == token.subject
        default = token.expected(CredentialRequest()) if way == "with_request" else None
        wanted = [default, *map(token.expected, ASKED)]
        assert [it and world.mint.issued[it] for it in found] == wanted
        # The cache has each of them from now on.
        expected.update({it: 1 for it in wanted if it is not None and it not in expected})

    def tokens_of(number: int) -> Sequence[Token]:
        """Of one user: two clients, and one of them with an actor. Each user's name is that of one
        at another issuer."""
        token = partial(world.token, f"user-{number // 2}", issuer=ISSUERS[number % 2])
        return (
            token(client="ide"),
            token(client="cli", roles=("dev",)),
            token(client="cli", actor="agent"),
        )

    async def calls(http: Endpoint, number: int) -> None:
        tokens = tokens_of(number)
        session = "" if is_modern else await opened(http)
        await use(http, session, tokens[0])
        await asyncio.gather(*(use(http, session, it) for it in tokens))
        await use(http, session, tokens[0])

    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        replicas(world, tmp_path, (True,)) as (service,),
    ):
        gate = SessionGate(
            make(stateless=is_modern),
            resolver=service.client,
            resource=RESOURCE,
            authorization_servers=ISSUERS,
            stateful=not is_modern,
            credentials=way,
        )
        async with (
            running(gate) as url,
            httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as client,
        ):
            http = Endpoint(client, MemoryResolver(), Meeting())
            await asyncio.gather(*(calls(http, number) for number in range(CALLERS)))
    assert world.mint.counts() == expected
