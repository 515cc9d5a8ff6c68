"""Once a session or a token is revoked, nothing more is issued, however it is asked for: by
default, by name, in place of a rejected token, from any cache, at any replica, and not by a call
that had begun before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from authsvc.client import AuthClient, AuthError, CredentialRequest, Reason
from authsvc.domain.revocation import NotBefore
from authsvc.server.stores import open_store
from tests.credential_chain.world import Token, World, a_world, replicas, secret_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import Service
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

CHAT = CredentialRequest("chat")
ALL = tuple(map(CredentialRequest, ("", "aws", "chat", "mail")))

Selection = tuple[CredentialRequest, ...] | None
Revoke = Callable[[list[Service], World, Token], Awaitable[Reason]]


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    with a_world(clock) as made:
        yield made


@pytest.fixture
async def services(world: World, tmp_path: Path) -> AsyncIterator[list[Service]]:
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        replicas(world, tmp_path, (True, False)) as running,
    ):
        yield running


async def session_revoked(services: list[Service], world: World, token: Token) -> Reason:
    """By another client of the first replica."""
    async with AuthClient(services[0].address, deadline_seconds=TIMEOUT_SECONDS) as operator:
        await operator.revoke("s")
    return Reason.SESSION_REVOKED


async def subject_revoked(services: list[Service], world: World, token: Token) -> Reason:
    """By an operator's tool at the store."""
    operators = await open_store(services[0].settings)
    try:
        now = world.clock()
        await operators.set_not_before(NotBefore(now, now, token.issuer, token.subject))
    finally:
        await operators.close()
    return Reason.TOKEN_REVOKED


async def reason(service: Service, token: Token, selection: Selection) -> Reason | None:
    try:
        await service.client.resolve(
            "s", token.text, resource=RESOURCE, create=True, credentials=selection
        )
    except AuthError as error:
        return error.reason
    return None


async def begin(services: list[Service], world: World, token: Token) -> list[Selection]:
    """Have everything cached at each replica. The ways to ask for it."""
    ways: list[Selection] = [None, (), ALL, (CHAT,)]
    for service in services:
        for selection in ways * 2:
            answer = await service.client.resolve(
                "s", token.text, resource=RESOURCE, create=True, credentials=selection
            )
            found = world.check(token, selection, answer)
        digest = sha256(secret_of(found["chat"]).encode()).digest()
        ways.append((CredentialRequest("chat", (), digest),))
    return ways


async def until_revoked(services: list[Service], token: Token, expected: Reason) -> None:
    """How soon is for chaos to measure."""
    for service in services:
        while await reason(service, token, ()) is not expected:
            pass  # each question waits for its answer


revocations = pytest.mark.parametrize("revoke", [session_revoked, subject_revoked])


@revocations
async def test_nothing_is_issued_any_more(
    revoke: Revoke, services: list[Service], world: World
) -> None:
    token = world.token("alice")
    ways = await begin(services, world, token)
    world.clock.advance(10)
    expected = await revoke(services, world, token)
    await until_revoked(services, token, expected)
    before = world.mint.calls
    for service in services:
        assert [await reason(service, token, it) for it in ways] == [expected] * len(ways)
    assert world.mint.calls == before


@revocations
async def test_a_call_that_had_begun_before_issues_nothing(
    revoke: Revoke, services: list[Service], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint may take seconds; a revocation is effective within one."""
    monkeypatch.setattr("authsvc.resolver.resolver.SLOW_SECONDS", 0.0)
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    token, chat = world.token("alice"), world.mint.endpoint("chat")
    for service in services:
        await service.client.resolve(
            "s", token.text, resource=RESOURCE, create=True, credentials=()
        )
        assert await reason(service, token, (CredentialRequest("mail"),)) is None
    chat.hold.clear()
    try:
        asked = [asyncio.create_task(reason(it, token, (CHAT,))) for it in services]
        for _ in services:
            assert await asyncio.to_thread(chat.arrived.acquire, timeout=TIMEOUT_SECONDS)
        expected = await revoke(services, world, token)
        await until_revoked(services, token, expected)
    finally:
        chat.hold.set()
    assert await asyncio.gather(*asked) == [expected] * 2


@revocations
async def test_renewals_end(revoke: Revoke, services: list[Service], world: World) -> None:
    """They begin with a request, and so there are none where there is no request."""
    token, chat = world.token("alice"), world.mint.endpoint("chat")
    chat.expires_in = 100
    await begin(services, world, token)
    assert chat.calls == 2
    world.clock.advance(85)
    chat.hold.clear()
    try:
        for service in services:
            assert await reason(service, token, (CHAT,)) is None
        for _ in range(4):
            assert await asyncio.to_thread(chat.arrived.acquire, timeout=TIMEOUT_SECONDS)
        expected = await revoke(services, world, token)
        await until_revoked(services, token, expected)
    finally:
        chat.hold.set()
    for _ in range(5):
        world.clock.advance(20)
        for service in services:
            assert await reason(service, token, (CHAT,)) is expected
    assert chat.calls == 4
