"""Idle and dead connections are closed, by either side."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from authsvc.client import AuthClient
from authsvc.client.http2.frames import ACK, PREFACE, SETTINGS
from authsvc.net.channels import LASTING, Option, open_channel
from authsvc.server import listener
from authsvc.server.config import Settings
from authsvc.server.running import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

EMPTY_SETTINGS = bytes((0, 0, 0, SETTINGS, 0)) + bytes(4)
SETTINGS_ACK = bytes((0, 0, 0, SETTINGS, ACK)) + bytes(4)
UNACKNOWLEDGED = PREFACE + EMPTY_SETTINGS
ACKNOWLEDGED = UNACKNOWLEDGED + SETTINGS_ACK


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> IdentityProvider:
    return IdentityProvider(clock)


def settings(tmp_path: Path, idp: IdentityProvider, **changes: object) -> Settings:
    """Settings of a server that closes a connection only for the reasons that the test sets."""
    never = {"max_connection_age_seconds": 0, "max_connection_idle_seconds": 0}
    return settings_for(tmp_path, idp, "memory", **{**never, **changes})


IDLE_OPTION = "grpc.client_idle_timeout_ms"
PING_OPTIONS = ("grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms")


def sooner(options: Iterable[Option], *names: str) -> tuple[Option, ...]:
    """The same options, with the times of the named ones divided by fifty."""
    return tuple((name, int(value) // 50 if name in names else value) for name, value in options)


class SilentPeer:
    """A connection that sends what it is given first, and nothing afterwards."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, address: str, first: bytes) -> SilentPeer:
        """Connected once the server has sent its first frame."""
        peer = cls(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        peer._writer.write(first)
        await peer._reader.readexactly(9)
        return peer

    async def end(self) -> bytes:
        """All that the server sends until it closes the connection; the last frame says why."""
        received = await self._reader.read()
        self._writer.close()
        await self._writer.wait_closed()
        return received


@pytest.mark.parametrize(
    ("first", "names", "why"),
    [
        (UNACKNOWLEDGED, ("grpc.http2.settings_timeout",), b"settings_timeout"),
        (ACKNOWLEDGED, PING_OPTIONS, b"ping_timeout"),
    ],
    ids=["settings", "ping"],
)
async def test_an_unresponsive_peer_is_disconnected(
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    first: bytes,
    names: tuple[str, ...],
    why: bytes,
) -> None:
    monkeypatch.setattr(listener, "_SERVER_OPTIONS", sooner(listener._SERVER_OPTIONS, *names))
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running(settings(tmp_path, idp), clock=clock) as address,
    ):
        peer = await SilentPeer.connect(address, first)
        assert why in await peer.end()


async def test_connections_without_a_call_are_closed(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    full = settings(tmp_path, idp, limits={"max_connections": 3}, max_connection_idle_seconds=0.2)
    async with asyncio.timeout(TIMEOUT_SECONDS), running(full, clock=clock) as address:
        peers = [await SilentPeer.connect(address, ACKNOWLEDGED) for _ in range(3)]
        async with AuthClient(address, deadline_seconds=TIMEOUT_SECONDS) as client:
            await client.resolve("", idp.token(), resource=RESOURCE)
        for peer in peers:
            assert b"connection idle" in await peer.end()


async def test_a_connection_with_a_call_stays(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    idle = settings(tmp_path, idp, max_connection_idle_seconds=0.2)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running(idle, clock=clock) as address,
        aio.insecure_channel(address) as channel,
    ):
        health: Any = HealthStub(channel)
        watch = health.Watch(HealthCheckRequest())
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        # Another one that has begun later has been idle for long enough.
        await (await SilentPeer.connect(address, ACKNOWLEDGED)).end()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        assert not watch.done()
        watch.cancel()


async def test_a_client_closes_an_idle_connection_itself_before_the_server_does(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    of_server = 1000 * Settings.model_fields["max_connection_idle_seconds"].default
    # gRPC checks at the end of each interval whether there was a call in it.
    assert of_server > 2 * int(dict(LASTING)[IDLE_OPTION])
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running(settings(tmp_path, idp), clock=clock) as address,
        open_channel(address, options=sooner(LASTING, IDLE_OPTION)) as channel,
    ):
        health: Any = HealthStub(channel)
        await health.Check(HealthCheckRequest())
        while (state := channel.get_state()) is not grpc.ChannelConnectivity.IDLE:
            await channel.wait_for_state_change(state)


async def test_a_client_notices_an_unresponsive_server() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            open_channel(address, options=sooner(LASTING, *PING_OPTIONS)) as channel,
        ):
            health: Any = HealthStub(channel)
            call = health.Check(HealthCheckRequest(), wait_for_ready=True)
            connection, _ = await loop.sock_accept(listening)
            with connection:
                await loop.sock_sendall(connection, EMPTY_SETTINGS + SETTINGS_ACK)
                with pytest.raises(aio.AioRpcError, match="ping timeout"):
                    await call
