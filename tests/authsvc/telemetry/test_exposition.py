"""A slow or silent scraper does not keep others from scraping."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from authsvc.common import wsgi_serving
from authsvc.common.wsgi_serving import MAX_CONNECTIONS
from authsvc.telemetry.exposition import exposed

pytestmark = pytest.mark.anyio

BOUND_SECONDS = 60.0


async def scraped(address: str) -> int:
    async with httpx2.AsyncClient(timeout=BOUND_SECONDS) as client:
        return (await client.get(f"http://{address}/metrics")).status_code


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=BOUND_SECONDS)


async def test_a_scrape_evicts_the_oldest_idle_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with exposed(CollectorRegistry(), "127.0.0.1:0") as address:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(connected(address)) for _ in range(3 * MAX_CONNECTIONS)]
            assert await scraped(address) == 200
            assert threading.active_count() <= MAX_CONNECTIONS + 20
            assert await asyncio.to_thread(silent[0].recv, 1) == b""
    assert "the oldest ends" in caplog.text


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n"])
async def test_a_scrape_has_a_time_limit(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(wsgi_serving, "CONNECTION_SECONDS", 0.0)
    async with exposed(CollectorRegistry(), "127.0.0.1:0") as address:
        with connected(address) as peer:
            peer.sendall(sent)
            assert await asyncio.to_thread(peer.recv, 1) == b""


async def test_a_lack_of_descriptors_is_logged_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    accept = socket.socket.accept
    refused: list[socket.socket] = []

    def without(self: socket.socket) -> tuple[socket.socket, object]:
        if len(refused) < 3:
            refused.append(self)
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(wsgi_serving, "PAUSE_SECONDS", 0.001)
    async with exposed(CollectorRegistry(), "127.0.0.1:0") as address:
        monkeypatch.setattr(socket.socket, "accept", without)
        assert await scraped(address) == 200
    assert len(refused) == 3
    assert caplog.text.count("no connection for metrics can be taken: Too many open files") == 1
