"""The proxy delays, cuts and freezes all connections, or only a feed."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from authsvc.net.development_certificates import write_development_certificates
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.proxy import Proxy, proxied
from tests.support.valkey import single

pytestmark = pytest.mark.anyio

SOON = 0.2
ONCE = Retry(NoBackoff(), 0)


@asynccontextmanager
async def through(proxy: Proxy) -> AsyncIterator[Redis]:
    """A client with one connection that is not made anew by itself."""
    async with Redis(port=proxy.port, retry=ONCE, single_connection_client=True) as client:
        yield client


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy in front of a server."""
    async with AsyncExitStack() as running:
        server = running.enter_context(single(tmp_path))
        yield await running.enter_async_context(proxied(server.address))


async def read_feed(client: Redis) -> None:
    await client.xread({"log": "0-0"}, block=1)


async def test_the_proxy_forwards(proxy: Proxy) -> None:
    async with through(proxy) as client:
        long = "x" * 1_000_000
        await client.set("key", long)
        assert await client.get("key") == long.encode()
        assert proxy.connections() == 1


async def test_the_proxy_delays_both_directions(proxy: Proxy) -> None:
    async with through(proxy) as client:
        await client.ping()
        proxy.delay_seconds = 0.05
        start = time.monotonic()
        await client.ping()
        assert time.monotonic() - start >= 0.1


async def test_cut_closes_open_and_new_connections_until_mend(proxy: Proxy) -> None:
    async with through(proxy) as client, through(proxy) as late:
        await client.ping()
        proxy.cut()
        with pytest.raises(RedisConnectionError):
            await client.ping()
        with pytest.raises(RedisConnectionError):
            await late.ping()
        proxy.mend()
        assert await late.ping()


async def test_frozen_connections_stay_open_and_forward_nothing_until_mend(proxy: Proxy) -> None:
    async with through(proxy) as client:
        await client.ping()
        proxy.freeze()
        asked = asyncio.ensure_future(client.incr("count"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asked), SOON)
        proxy.mend()
        assert await asyncio.wait_for(asked, TIMEOUT_SECONDS) == 1


async def test_a_frozen_proxy_accepts_and_sends_nothing(proxy: Proxy) -> None:
    proxy.freeze()
    async with Redis(port=proxy.port, retry=ONCE, socket_timeout=SOON) as client:
        with pytest.raises(RedisTimeoutError):
            await client.ping()


async def test_only_the_feed_is_cut(proxy: Proxy) -> None:
    async with through(proxy) as feed, through(proxy) as other:
        await read_feed(feed)
        await other.ping()
        assert proxy.connections(feed_only=True) == 1
        proxy.cut(feed_only=True)
        with pytest.raises(RedisConnectionError):
            await read_feed(feed)
        assert await other.ping()
        with pytest.raises(RedisConnectionError):
            await read_feed(other)


async def test_only_the_feed_is_frozen(proxy: Proxy) -> None:
    async with through(proxy) as feed, through(proxy) as other:
        await read_feed(feed)
        proxy.freeze(feed_only=True)
        asked = asyncio.create_task(read_feed(feed))
        assert await other.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asked), SOON)
        proxy.mend()
        await asyncio.wait_for(asked, TIMEOUT_SECONDS)


async def test_a_command_in_two_chunks_is_recognised(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(*proxy.address)
    writer.write(b"*4\r\n$5\r\nXRE")
    await writer.drain()
    while not proxy.connections():  # noqa: ASYNC110 - there is nothing else to be told by
        await asyncio.sleep(0)
    assert not proxy.connections(feed_only=True)
    writer.write(b"AD\r\n$7\r\nSTREAMS\r\n$1\r\nk\r\n$1\r\n0\r\n")
    await writer.drain()
    await asyncio.wait_for(reader.read(1), TIMEOUT_SECONDS)
    assert proxy.connections(feed_only=True) == 1
    writer.close()
    await writer.wait_closed()


async def test_the_proxy_serves_tls(tmp_path: Path) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/authsvc")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with single(tmp_path) as server:
        async with proxied(server.address, tls=tls) as proxy:
            authority = str(tmp_path / "ca.pem")
            async with Redis(port=proxy.port, ssl=True, ssl_ca_certs=authority) as client:
                assert await client.ping()
            with pytest.raises(RedisConnectionError):
                async with through(proxy):
                    pass
