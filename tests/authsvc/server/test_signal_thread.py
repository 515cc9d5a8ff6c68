"""The receiver of signals has a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from authsvc.http_server.embedded import EmbeddedServer
from authsvc.server import signal_receiver
from authsvc.server.assembly import Service
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.server.signal_thread import MAX_IN_FLIGHT, AcrossLoops
from authsvc.signals.errors import SignalError, invalid_request
from authsvc.signals.processing import SignalProcessor
from authsvc.signals.receiving import Receipt
from tests.authsvc.signals.test_endpoint import configured
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.signal_receiver import FakeReceipt, FakeReceiver, endpoint

pytestmark = pytest.mark.anyio


async def test_senders_have_no_turn_in_the_loop_that_resolves(tmp_path: Path) -> None:
    """What is answered without processing is answered while that loop is at work."""
    async with endpoint(configured(tmp_path)) as served:
        host, port = served.address.split(":")
        # It blocks this loop, on purpose.
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as sender:
            sender.sendall(b"GET /signals/events HTTP/1.1\r\nHost: a\r\n\r\n")
            assert sender.recv(100).startswith(b"HTTP/1.1 405")
            sender.sendall(
                b"POST /signals/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
            )
            answered = b""
            while b"HTTP/1.1 415" not in answered:  # the rest of the other answer comes before it
                answered += (received := sender.recv(1_000))
                assert received


async def test_signals_are_processed_in_the_loop_that_resolves(tmp_path: Path) -> None:
    threads: list[int] = []

    class Receiver(FakeReceiver):
        async def _receive(self, kind: str, text: str, client_address: str) -> FakeReceipt:
            threads.append(threading.get_ident())
            return await super()._receive(kind, text, client_address)

    async with endpoint(configured(tmp_path), receiver=Receiver()) as served:
        assert (await served.push("a.b.c")).status_code == 202
        assert (await served.logout("logout_token=a.b.c")).status_code == 200
    assert threads == [threading.get_ident()] * 2


async def test_few_are_processed_at_once() -> None:
    receiver = FakeReceiver()
    receiver.hold.clear()
    across = AcrossLoops(receiver, asyncio.get_running_loop())
    calls: list[asyncio.Task[Receipt]] = []
    for number in range(MAX_IN_FLIGHT + 5):
        receive = across.receive_set if number % 2 else across.receive_logout
        calls.append(asyncio.create_task(receive(str(number), client_address="")))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        for _ in range(1_000):  # passes of the loop, in which a further one would begin
            await asyncio.sleep(0)
        assert len(receiver.received) == MAX_IN_FLIGHT
        receiver.hold.set()
        await asyncio.gather(*calls)
    assert len(receiver.received) == MAX_IN_FLIGHT + 5


async def test_an_error_is_that_of_the_receiver() -> None:
    receiver = FakeReceiver(failure=invalid_request("No."))
    across = AcrossLoops(receiver, asyncio.get_running_loop())
    with pytest.raises(SignalError) as caught:
        await across.receive_set("a.b.c", client_address="")
    assert caught.value is receiver.failure


async def test_keys_are_fetched_before_signals_are_received(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that tries once must not find a receiver that lacks the keys."""
    order: list[str] = []
    refresh, receiving = SignalProcessor.refresh, signal_receiver.receiving

    async def refreshed(self: SignalProcessor, now: float) -> bool:
        order.append("keys")
        return await refresh(self, now)

    def begun(settings: Settings, service: Service) -> AbstractAsyncContextManager[None]:
        order.append("receiver")
        return receiving(settings, service)

    monkeypatch.setattr(SignalProcessor, "refresh", refreshed)
    monkeypatch.setattr(signal_receiver, "receiving", begun)
    async with running(configured(tmp_path)):
        assert order[:2] == ["keys", "receiver"]


async def test_a_server_that_does_not_begin_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: EmbeddedServer, sockets: list[socket.socket] | None = None) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(EmbeddedServer, "startup", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        async with endpoint(configured(tmp_path)):
            pass


async def test_its_thread_ends_with_it(tmp_path: Path) -> None:
    async with endpoint(configured(tmp_path)):
        assert "receive signals" in {it.name for it in threading.enumerate()}
    assert "receive signals" not in {it.name for it in threading.enumerate()}
