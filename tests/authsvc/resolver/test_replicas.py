"""Two replicas over one store: a write at one is seen at the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authsvc.client import AuthClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Outcome, Resolution
from authsvc.domain.revocation import NotBefore
from authsvc.server.config import Settings
from authsvc.server.config.store import SHARED_KINDS
from authsvc.server.stores import open_store
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import serving, settings_for, store_settings
from tests.support.tokens import RESOURCE, IdentityProvider
from tests.support.valkey import single

pytestmark = pytest.mark.anyio


@dataclass
class Fleet:
    """Two replicas, a client of each, and one of both."""

    one: AuthClient
    other: AuthClient
    both: AuthClient
    clock: Clock
    idp: IdentityProvider
    addresses: tuple[str, str]
    settings: Settings


@asynccontextmanager
async def fleet(tmp_path: Path, store: Mapping[str, object]) -> AsyncIterator[Fleet]:
    clock = Clock()
    idp = IdentityProvider(clock)
    async with AsyncExitStack() as running:
        clients: list[AuthClient] = []
        addresses: list[str] = []
        for name in ("one", "other"):
            folder = tmp_path / name
            folder.mkdir()
            settings = settings_for(folder, idp, credentials={}, store=store)
            service = await running.enter_async_context(serving(settings, clock))
            clients.append(service.client)
            addresses.append(service.address)
        both = await running.enter_async_context(
            AuthClient(addresses, deadline_seconds=TIMEOUT_SECONDS)
        )
        one, other = clients
        yield Fleet(one, other, both, clock, idp, (addresses[0], addresses[1]), settings)


@pytest.fixture(params=SHARED_KINDS)
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path, store_settings(tmp_path, request.param)) as made:
        yield made


async def rejection(call: Awaitable[object]) -> Reason | None:
    """The reason for which a call was rejected; None if it was not."""
    try:
        await call
    except AuthError as error:
        return error.reason
    return None


async def within(seconds: float, what: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that another process brings about without notice."""
    async with asyncio.timeout(seconds):
        while not await what():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


async def test_a_session_of_one_is_known_to_the_other(replicas: Fleet) -> None:
    token = replicas.idp.token()
    created = await replicas.one.resolve("s", token, resource=RESOURCE, create=True)
    reused = await replicas.other.resolve("s", token, resource=RESOURCE)
    assert (created.outcome, reused.outcome) == (Outcome.CREATED, Outcome.REUSED)
    assert reused.session == created.session
    assert reused.principal == created.principal


async def test_a_then_b_answers_b_on_every_replica(replicas: Fleet) -> None:
    a = replicas.idp.token(roles=["reader"])
    replicas.clock.advance(1)
    b = replicas.idp.token(roles=["analyst"])

    async def roles(client: AuthClient, token: str) -> tuple[str, ...]:
        answer = await client.resolve("s", token, resource=RESOURCE, create=True)
        assert answer.principal is not None
        return answer.principal.roles

    for client in (replicas.one, replicas.other):
        assert await roles(client, a) == ("reader",)
    assert await roles(replicas.one, b) == ("analyst",)
    assert await roles(replicas.other, b) == ("analyst",)
    assert await roles(replicas.one, b) == ("analyst",)
    answer = await replicas.other.resolve("s", b, resource=RESOURCE)
    assert (answer.outcome, answer.session and answer.session.revision) == (Outcome.REUSED, 2)


async def test_a_revocation_at_one_is_obeyed_by_the_other(replicas: Fleet) -> None:
    token = replicas.idp.token()
    await replicas.one.resolve("s", token, resource=RESOURCE, create=True)
    await replicas.other.resolve("s", token, resource=RESOURCE)
    await replicas.one.revoke("s")

    async def obeyed() -> bool:
        call = replicas.other.resolve("s", token, resource=RESOURCE, create=True)
        return await rejection(call) is Reason.SESSION_REVOKED

    await within(TIMEOUT_SECONDS, obeyed)  # how soon is for chaos to measure


async def test_a_client_sees_its_revocation_immediately_on_every_replica(replicas: Fleet) -> None:
    token = replicas.idp.token()
    for number in range(30):
        name = f"s{number}"
        await replicas.both.resolve(name, token, resource=RESOURCE, create=True)
        for client in (replicas.one, replicas.other):
            await client.resolve(name, token, resource=RESOURCE)
        await replicas.both.revoke(name)
        reasons = [
            await rejection(replicas.both.resolve(name, token, resource=RESOURCE)) for _ in range(4)
        ]
        assert reasons == [Reason.SESSION_REVOKED] * 4


async def test_another_subject_is_rejected_on_every_replica(replicas: Fleet) -> None:
    alice, bob = replicas.idp.token("alice"), replicas.idp.token("bob")
    await replicas.one.resolve("s", alice, resource=RESOURCE, create=True)
    call = replicas.other.resolve("s", bob, resource=RESOURCE, create=True)
    assert await rejection(call) is Reason.SESSION_SUBJECT_MISMATCH
    answer: Resolution = await replicas.other.resolve("s", alice, resource=RESOURCE)
    assert answer.principal is not None
    assert answer.principal.subject == "alice"


async def test_a_not_before_is_obeyed_by_every_replica(replicas: Fleet) -> None:
    token = replicas.idp.token()
    for client in (replicas.one, replicas.other):
        await client.resolve("s", token, resource=RESOURCE, create=True)
    operators = await open_store(replicas.settings)  # the replica that an operator calls
    try:
        now = replicas.clock()
        await operators.set_not_before(NotBefore(now, now, replicas.idp.issuer, "alice"))
    finally:
        await operators.close()
    for client in (replicas.one, replicas.other):

        async def obeyed(client: AuthClient = client) -> bool:
            call = client.resolve("s", token, resource=RESOURCE)
            return await rejection(call) is Reason.TOKEN_REVOKED

        await within(TIMEOUT_SECONDS, obeyed)  # how soon is for chaos to measure
    replicas.clock.advance(1)
    later = await replicas.other.resolve("s", replicas.idp.token(), resource=RESOURCE)
    assert later.outcome is Outcome.REAUTHENTICATED


async def test_requests_fail_while_the_store_is_unavailable_and_succeed_after(
    tmp_path: Path,
) -> None:
    with single(tmp_path) as valkey:
        settings = {"kind": "redis", "url": valkey.url, "prefix": "p", "timeout_seconds": 0.5}
        async with fleet(tmp_path, settings) as replicas:
            token = replicas.idp.token()
            await replicas.one.resolve("s", token, resource=RESOURCE, create=True)
            async with grpc.aio.insecure_channel(replicas.addresses[0]) as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)

                async def serves() -> bool:
                    answer = await health.Check(health_pb2.HealthCheckRequest())
                    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

                async def serves_not() -> bool:
                    return not await serves()

                async def resolves() -> bool:
                    call = replicas.one.resolve("s", token, resource=RESOURCE)
                    return await rejection(call) is None

                await within(TIMEOUT_SECONDS, serves)
                valkey.pause()
                await within(TIMEOUT_SECONDS, serves_not)
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    call = replicas.one.resolve("s", token, resource=RESOURCE)
                    assert await rejection(call) is Reason.STORE_UNAVAILABLE
                valkey.resume()
                await within(TIMEOUT_SECONDS, serves)
                await within(TIMEOUT_SECONDS, resolves)
