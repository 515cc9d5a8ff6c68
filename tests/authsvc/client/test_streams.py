"""The stream of a replica: kept connected, replaced, and done without while there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from authsvc.client import AuthClient, streams
from authsvc.client.http2.connecting import connect
from authsvc.client.http2.connection import Connection
from authsvc.client.stream import ResolveStream
from authsvc.client.streams import REPORTED_FAILURES, Streams
from authsvc.domain.errors import AuthError, Reason
from authsvc.server.running import running
from tests.authsvc.client.fleet import (
    BOUND_SECONDS,
    RESOURCE,
    client_of,
    connected,
    fleet,
    resolved,
    streaming,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE as REGISTERED
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

Connect = Callable[..., Awaitable[Connection]]


def streams_of(client: AuthClient) -> Streams:
    """Those of a client's only replica."""
    [replica] = client._replicas._by_endpoint.values()
    assert replica._streams is not None
    return replica._streams


def connecting_by(monkeypatch: pytest.MonkeyPatch, by: Connect) -> None:
    """Connect in another way, and again without a pause."""
    monkeypatch.setattr(streams, "connect", by)
    monkeypatch.setattr(streams, "FIRST_PAUSE_SECONDS", 0.0)


async def test_a_replica_is_called_while_its_stream_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_connect = asyncio.Event()

    async def late(*args: object) -> Connection:
        await may_connect.wait()
        return await connect(*args)  # type: ignore[arg-type] # as it was called

    connecting_by(monkeypatch, late)
    async with fleet(1) as [replica], client_of(replica) as client:
        await asyncio.gather(*(resolved(client) for _ in range(3)))
        assert (len(replica.asked), replica.opened) == (3, [])
        may_connect.set()
        await streaming(client)
        await resolved(client)
        assert len(replica.opened) == 1


async def test_a_stream_that_cannot_be_had_is_logged_once_and_tried_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    async def at_last(*args: object) -> Connection:
        nonlocal attempts
        attempts += 1
        if attempts <= 2 * REPORTED_FAILURES:
            raise ConnectionError("no\nsuch\x1bluck")
        return await connect(*args)  # type: ignore[arg-type] # as it was called

    connecting_by(monkeypatch, at_last)
    async with fleet(1) as [replica], client_of(replica) as client:
        await resolved(client)
        await streaming(client)
        await resolved(client)
        assert len(replica.opened) == 1
        name = replica.address
    assert caplog.messages == [
        f"no stream to authsvc at {name} (no\\nsuch\\x1bluck): it is called instead"
    ]


async def test_a_lost_stream_is_replaced() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        await resolved(client)
        await replica.stop()
        await replica.start()
        await connected(client, 1)
        await streaming(client)
        await resolved(client)
    assert len(replica.opened) == 2


async def test_a_replica_without_streams_is_not_connected_to_again() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        replica.streams = False
        await streaming(client)
        await asyncio.gather(*(resolved(client) for _ in range(5)))
        [known] = client._replicas._by_endpoint.values()
        assert known._streams is None
        async with asyncio.timeout(BOUND_SECONDS):
            await asyncio.wait((known._streaming,))
        assert len(replica.asked) == 5


async def test_an_answer_that_cannot_be_read_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unreadable(*_: object) -> bytes:
        return b"\xff\xff"

    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        monkeypatch.setattr(ResolveStream, "ask", unreadable)
        with pytest.raises(AuthError) as caught:
            await resolved(client)
    assert caught.value.reason is Reason.SERVICE_UNAVAILABLE


async def test_connections_that_end_for_their_age_fail_no_resolve(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token()
    settings = settings_for(
        tmp_path, idp, "memory", max_connection_age_seconds=0.3, limits={"calls_burst": 1_000_000}
    )
    async with (
        running(settings, clock=clock) as address,
        AuthClient(address, deadline_seconds=TIMEOUT_SECONDS) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        used: list[ResolveStream] = []
        known = streams_of(client)

        async def load(session_id: str) -> None:
            while len(used) < 4:
                await client.resolve(session_id, token, resource=REGISTERED, create=True)
                if known._stream is not None and known._stream not in used:
                    used.append(known._stream)

        await asyncio.gather(*(load(f"s{number}") for number in range(8)))
        assert len(known._finishing) < 4


async def test_an_idle_connection_that_is_closed_is_made_again(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = settings_for(tmp_path, idp, "memory", max_connection_idle_seconds=0.2)
    async with (
        running(settings, clock=clock) as address,
        AuthClient(address, deadline_seconds=TIMEOUT_SECONDS) as client,
        asyncio.timeout(BOUND_SECONDS),
    ):
        for _ in range(2):
            await streaming(client)
            connection = streams_of(client)._connection
            assert connection is not None
            await asyncio.wait((connection.closed,))
        await client.resolve("", "", resource=REGISTERED)


async def test_a_stream_takes_nothing_that_its_caller_no_longer_shows() -> None:
    async with fleet(1) as [replica], client_of(replica) as client:
        await streaming(client)
        known = streams_of(client)
        first = known.current((("authorization", "Bearer a"),))
        assert first is not None
        assert known.current((("authorization", "Bearer a"),)) is first
        assert known.current((("authorization", "Bearer b"),)) is None
        assert not first.usable
        await streaming(client)
        second = known.current((("authorization", "Bearer b"),))
        assert second is not None
        assert second is not first
        await client.resolve("s", "", resource=RESOURCE)
