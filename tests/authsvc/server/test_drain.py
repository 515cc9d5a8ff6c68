"""A server drains before it stops, and closes its connections at their age."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from authsvc.client import AuthClient
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.http2 import UnreadAnswers
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

WAIT_SECONDS = TIMEOUT_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> IdentityProvider:
    return IdentityProvider(clock)


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"unix:{tmp_path}/authsvc.sock") as opened:
        yield opened


def settings(tmp_path: Path, idp: IdentityProvider, **seconds: float) -> Settings:
    return settings_for(tmp_path, idp, "memory", credentials={}, **seconds)


async def test_a_draining_server_reports_it_and_serves(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, channel: aio.Channel
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    token = idp.token()
    async with AuthClient(f"unix:{tmp_path}/authsvc.sock", deadline_seconds=WAIT_SECONDS) as client:
        # It stays in its drain for as long as this test needs.
        server = running(settings(tmp_path, idp, drain_seconds=300.0), clock=clock)
        await server.__aenter__()
        await client.resolve("s", token, resource=RESOURCE, create=True)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            leaving = asyncio.create_task(server.__aexit__(None, None, None))
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        answer = await client.resolve("s", token, resource=RESOURCE)
        assert answer.principal is not None
        assert not leaving.done()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def test_a_watch_does_not_delay_a_stop(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, channel: aio.Channel
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(WAIT_SECONDS):
        async with running(settings(tmp_path, idp, grace_seconds=300.0), clock=clock):
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(aio.AioRpcError) as caught:
            await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


BATCH = pb.ResolveSessionStreamRequest(
    entries=[
        pb.ResolveSessionStreamRequest.Entry(
            request_id=number, request=pb.ResolveSessionRequest(resource=RESOURCE)
        )
        for number in range(200)
    ]
)


@pytest.mark.parametrize(
    ("method", "request_message", "is_last"),
    [
        ("grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest(), True),
        ("grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(), True),
        (
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest(list_services=""),
            False,
        ),
        ("authsvc.v1.AuthService/ResolveSessionStream", BATCH, False),
    ],
    ids=["watch", "check", "reflection", "stream"],
)
async def test_an_unread_response_delays_neither_others_nor_a_stop(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    channel: aio.Channel,
    method: str,
    request_message: Message,
    *,
    is_last: bool,
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(WAIT_SECONDS):
        async with running(settings(tmp_path, idp, grace_seconds=3), clock=clock) as address:
            unread = UnreadAnswers(address, f"/{method}")
            await unread.ask(1, request_message.SerializeToString(), end=is_last)
            await unread.until(lambda: unread.begun == 1)
            staying = asyncio.create_task(unread.stay())
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)
    unread.close()


async def test_an_aged_connection_closes_after_its_calls(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, channel: aio.Channel
) -> None:
    token = idp.token()
    aging = settings(tmp_path, idp, max_connection_age_seconds=0.1)
    async with (
        running(aging, clock=clock) as address,
        AuthClient(address, deadline_seconds=WAIT_SECONDS) as client,
        asyncio.timeout(WAIT_SECONDS),
    ):
        await client.resolve("s", token, resource=RESOURCE, create=True)
        for _ in range(3):  # another connection, which lasts as long
            while (state := channel.get_state(try_to_connect=True)) is not _READY:
                await channel.wait_for_state_change(state)
            ended = asyncio.ensure_future(channel.wait_for_state_change(_READY))
            while not ended.done():
                await client.resolve("s", token, resource=RESOURCE)


_READY = grpc.ChannelConnectivity.READY


async def test_an_unread_watch_of_an_unregistered_caller_ends_once_it_is_read(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    proof, token = tmp_path / "proof", token_hex(20)
    proof.write_text(token)
    caller = {"name": "one", "resources": [RESOURCE], "service_token_files": [proof]}
    known = settings_for(tmp_path, idp, resources=(), callers=[caller])
    async with running(known, clock=clock) as address, asyncio.timeout(WAIT_SECONDS):
        unread = UnreadAnswers(address, "/grpc.health.v1.Health/Watch", token)
        await unread.ask(1)
        await unread.until(lambda: unread.begun == 1)
        proof.unlink()
        unread.make_room()
        await unread.until(lambda: bool(unread.ended))
        unread.close()
