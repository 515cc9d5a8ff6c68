"""Clients that send nothing, too little or too much, or do not read, do not harm the others."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from authsvc.http_server.connection import Connection, Phase
from authsvc.http_server.connections import Connections
from authsvc.net import descriptors
from authsvc.net.peers import network_of
from tests.support.http_server import BOUND_SECONDS, GET, Peer, Served, serving
from tests.support.operators import write_tls

pytestmark = pytest.mark.anyio

HALF_A_HEAD = b"POST /x HTTP/1.1\r\nHost: a.example\r\n"
HALF_A_BODY = HALF_A_HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 500


async def is_served(served: Served) -> bool:
    """Whether a well-behaved client gets a response."""
    async with await served.send(GET) as peer:
        return await peer.answer() == (200, b"0")


def dropped(served: Served) -> dict[str, int]:
    return dict(served.connections.counts.dropped)


# Time


@pytest.mark.parametrize(
    ("sent", "said", "reason"),
    [
        (b"", b"", "header_timeout"),
        (b"G", b"408", "header_timeout"),
        (HALF_A_HEAD, b"408", "header_timeout"),
    ],
    ids=["nothing", "a letter", "half a head"],
)
async def test_a_head_has_a_time_limit(sent: bytes, said: bytes, reason: str) -> None:
    async with serving(header_timeout_seconds=10) as served, await served.send(sent) as peer:
        connection = await one(served, received=len(sent))
        served.pass_time(9.9)
        assert connection in list(served.connections)
        served.pass_time(0.1)
        assert (await peer.rest()).partition(b" ")[2][:3] == said
        assert dropped(served) == {reason: 1}


async def test_time_limits_are_enforced_without_a_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And after a failure of that, which is logged once."""
    monkeypatch.setattr("authsvc.http_server.server.LONGEST_SWEEP_SECONDS", 0.001)
    failures = iter([RuntimeError("a defect"), RuntimeError("a defect")])
    sweep = Connections.sweep

    def failing(self: Connections) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        sweep(self)

    monkeypatch.setattr(Connections, "sweep", failing)
    async with serving(header_timeout_seconds=10) as served, await served.send(b"G") as peer:
        await one(served, received=1)
        served.clock.advance(10)
        assert b" 408 " in await peer.rest()
    (line,) = (it.getMessage() for it in caplog.records if "has failed" in it.getMessage())
    assert line.startswith("sweep of connections has failed, and will be tried again: RuntimeError")


async def test_a_slow_head_gains_no_time() -> None:
    async with serving(header_timeout_seconds=10) as served, await served.connect() as peer:
        for count in range(10):
            await peer.send(HALF_A_HEAD[count : count + 1])
            await one(served, received=count + 1)
            served.pass_time(1.0)
        served.pass_time(0.1)
        assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_further_head_has_the_same_time_limit() -> None:
    async with serving(header_timeout_seconds=10) as served, await served.send(GET) as peer:
        assert (await peer.answer())[0] == 200
        await peer.send(HALF_A_HEAD)
        await one(served, received=len(HALF_A_HEAD))
        served.pass_time(10)
        assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_whole_request_has_a_time_limit_and_its_app_is_disconnected() -> None:
    heard = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "http.request":
            pass
        heard.set()

    async with serving(app, request_timeout_seconds=60) as served:
        async with await served.send(HALF_A_BODY) as peer:
            await one(served, received=500)
            for _ in range(5):
                await peer.send(b"x")
                served.pass_time(11)
            assert dropped(served) == {}
            served.pass_time(5)
            assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")
        async with asyncio.timeout(BOUND_SECONDS):
            await heard.wait()
    assert dropped(served) == {"request_timeout": 1}


async def test_a_body_after_its_response_has_a_time_limit_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body"})

    async with (
        serving(app, request_timeout_seconds=60) as served,
        await served.send(HALF_A_BODY) as peer,
    ):
        assert await peer.answer() == (401, b"")
        served.pass_time(60)
        assert await peer.rest() == b""
        assert dropped(served) == {"request_timeout": 1}


async def test_a_response_has_no_time_limit() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"b"})

    async with serving(app) as served, await served.send(GET) as peer:
        await peer.head()
        served.pass_time(100_000)
        go_on.set()
        async with asyncio.timeout(BOUND_SECONDS):
            assert await peer.reader.readuntil(b"0\r\n\r\n") == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        assert dropped(served) == {}


async def test_between_requests_a_connection_is_kept_for_a_while() -> None:
    async with serving(keep_alive_seconds=75) as served, await served.send(GET) as peer:
        assert (await peer.answer())[0] == 200
        served.pass_time(74)
        await peer.send(GET)
        assert (await peer.answer())[0] == 200
        served.pass_time(75)
        assert await peer.rest() == b""
        assert dropped(served) == {}


# Responses that are not read


async def big(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers more than any socket takes at once, in pieces of 256 KiB."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(256):
        await send({"type": "http.response.body", "body": bytes(256 * 1024), "more_body": True})
    await send({"type": "http.response.body"})


async def whole(scope: Scope, receive: Receive, send: Send) -> None:
    """The same at once."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(64 * 1024 * 1024)})


@pytest.mark.parametrize("app", [big, whole])
async def test_a_client_that_does_not_read_is_disconnected(app: object) -> None:
    async with serving(app, write_timeout_seconds=30) as served:  # type: ignore[arg-type] # an app
        async with await not_reading(served):
            await served.until(lambda served: served.connections.counts.buffered_bytes > 64 * 1024)
            served.pass_time(29)
            assert dropped(served) == {}
            served.pass_time(1)
            await served.until(lambda served: len(served.connections) == 0)
            assert dropped(served) == {"write_timeout": 1}
        assert served.connections.counts.buffered_bytes == 0


async def test_an_unread_last_response_has_a_time_limit_too() -> None:
    async with serving(whole, write_timeout_seconds=30) as served:
        raw = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        async with await not_reading(served, raw):
            await served.until(lambda served: served.connections.counts.buffered_bytes > 64 * 1024)
            served.pass_time(0)
            served.pass_time(30)
            await served.until(lambda served: len(served.connections) == 0)


async def test_a_slow_reader_is_served() -> None:
    async with (
        serving(whole, write_timeout_seconds=30) as served,
        await not_reading(served) as peer,
    ):
        await served.until(lambda served: served.connections.counts.buffered_bytes > 64 * 1024)
        before = served.connections.counts.buffered_bytes
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined] # a socket's
        while before - served.connections.counts.buffered_bytes < 1024 * 1024:
            async with asyncio.timeout(BOUND_SECONDS):
                await peer.reader.read(64 * 1024)
            served.pass_time(0)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
        served.pass_time(29)
        assert dropped(served) == {}


async def test_unread_responses_are_bounded_in_total() -> None:
    bound = 200 * 1024 * 1024
    async with serving(whole, max_buffered_bytes=bound) as served, AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(await not_reading(served))
        await served.until(lambda served: dropped(served).get("max_buffered_bytes", 0) >= 2)
        assert served.connections.counts.buffered_bytes <= bound


# Bodies


async def test_bodies_are_bounded_in_total_and_the_largest_are_dropped_first() -> None:
    head = HALF_A_HEAD + b"Content-Length: 1000000\r\n\r\n"
    async with serving(max_buffered_bytes=100_000) as served, AsyncExitStack() as stack:
        small = await stack.enter_async_context(await served.send(HALF_A_BODY))
        await one(served, received=500)
        large = await stack.enter_async_context(await served.send(head + b"x" * 60_000))
        await served.until(lambda served: served.connections.counts.buffered_bytes == 60_500)
        larger = await stack.enter_async_context(await served.send(head + b"x" * 60_001))
        said = await larger.rest() or await large.rest()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in said
        assert served.connections.counts.buffered_bytes <= 100_000
        assert await is_served(served)
        await small.send(b"x" * 500)
        assert await small.answer() == (200, b"1000")


async def test_a_body_is_released_with_its_response() -> None:
    async with serving() as served, await served.send(HALF_A_BODY + b"x" * 500) as peer:
        assert await peer.answer() == (200, b"1000")
        await served.until(lambda served: served.connections.counts.buffered_bytes == 0)


# Heads


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX: " + b"x" * 9000,
        b"GET / HTTP/1.1\r\nHost: a.example\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\n" + b"".join(b"X: %d\r\n" % n for n in range(129)),
        b"GET /" + b"x" * 9000,
        b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
        + b"x" * 9000
        + b"\r\n\r\n",
    ],
    ids=["unended", "whole", "many", "target", "trailers"],
)
async def test_a_head_has_a_size_limit(raw: bytes) -> None:
    async with serving(max_header_bytes=8192) as served:
        said = await served.says(raw)
        assert dropped(served) == {"head_too_large": 1}
    assert said.startswith(b"HTTP/1.1 431 ")
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "begun", [b"1;x=", b"0", b"0\r\nX", b"0\r\nX: "], ids=["extension", "size", "name", "value"]
)
async def test_chunk_extensions_and_trailers_have_a_size_limit(begun: bytes) -> None:
    head = HALF_A_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
    async with serving(max_header_bytes=8192) as served, await served.send(head + begun) as peer:
        for _ in range(64):
            await peer.send(b"0" * 4096)
        said = await peer.rest()
        assert dropped(served) == {"head_too_large": 1}
    assert said.startswith(b"HTTP/1.1 431 ")
    assert said.count(b"HTTP/1.1 ") == 1


async def test_many_small_chunks_do_not_count_as_a_head() -> None:
    async with serving(max_header_bytes=1024) as served, await served.connect() as peer:
        await peer.send(HALF_A_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            await peer.send(b"1;extension\r\na\r\n")
        await peer.send(b"0\r\nX: y\r\n\r\n")
        assert await peer.answer() == (200, b"1000")


async def test_the_size_of_bodies_does_not_count_for_the_next_head() -> None:
    post = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000
    async with serving(max_header_bytes=8192) as served, await served.connect() as peer:
        await peer.send(post + post + HALF_A_HEAD)
        for _ in range(2):
            assert await peer.answer() == (200, b"9000")
        await peer.send(b"Content-Length: 0\r\n\r\n")
        assert await peer.answer() == (200, b"0")


# Numbers


async def test_at_the_limit_a_new_connection_replaces_the_one_silent_for_longest() -> None:
    async with serving(max_connections=8) as served, AsyncExitStack() as stack:
        silent = []
        for count in range(8):
            peer = await served.send(HALF_A_HEAD[:count])
            silent.append(await stack.enter_async_context(peer))
            await served.until(lambda served: len(served.connections) == len(silent))
        for count in range(4):
            good = await stack.enter_async_context(await served.send(GET))
            assert await good.answer() == (200, b"0")
            assert await silent[count].rest() == b""
        assert dropped(served) == {"max_connections": 4}


async def test_silent_connections_are_dropped_before_those_that_were_served() -> None:
    async with serving(max_connections=8) as served, AsyncExitStack() as stack:
        good = await stack.enter_async_context(await served.send(GET))
        assert (await good.answer())[0] == 200
        for _ in range(50):
            await stack.enter_async_context(await served.connect())
            assert len(served.connections) <= 8
        await served.until(lambda served: dropped(served).get("max_connections") == 43)
        await good.send(GET)
        assert (await good.answer())[0] == 200


async def test_incomplete_bodies_are_dropped_when_all_have_a_request() -> None:
    async with serving(max_connections=8) as served, AsyncExitStack() as stack:
        held = []
        for _ in range(8):
            held.append(await stack.enter_async_context(await served.send(HALF_A_BODY)))
            await served.until(
                lambda served: [c.phase for c in served.connections].count(Phase.BODY) == len(held)
            )
        for _ in range(4):
            assert await is_served(served)
        assert await held[0].rest() == b""
        await held[7].send(b"x" * 500)
        assert await held[7].answer() == (200, b"1000")


async def test_half_a_request_behind_a_running_one_does_not_cost_the_connection() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    async with serving(app, max_connections=1) as served, await served.send(GET) as busy:
        await served.until(lambda served: served.server.server_state.tasks)
        await busy.send(HALF_A_BODY)
        await served.until(lambda served: served.connections.counts.buffered_bytes)
        async with await served.connect() as refused:
            assert (await refused.rest()).startswith(b"HTTP/1.1 503 ")
        go_on.set()
        assert await busy.answer() == (200, b"")


async def test_running_requests_keep_their_connection_and_a_new_one_is_rejected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    async with serving(app, max_connections=2) as served, AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(await served.send(GET)) for _ in range(2)]
        await served.until(lambda served: len(served.server.server_state.tasks) == 2)
        async with await served.connect() as refused:
            assert (await refused.rest()).startswith(b"HTTP/1.1 503 ")
        served.connections.sweep()
        go_on.set()
        for peer in busy:
            assert await peer.answer() == (200, b"")
    assert "connections dropped: 1 max_connections" in caplog.text


async def test_connections_of_an_address_are_limited() -> None:
    async with serving(max_connections_per_address=2) as served, AsyncExitStack() as stack:
        for _ in range(2):
            good = await stack.enter_async_context(await served.send(GET))
            assert (await good.answer())[0] == 200
        async with await served.connect() as refused:
            assert (await refused.rest()).startswith(b"HTTP/1.1 503 ")
        assert dropped(served) == {"max_connections_per_address": 1}


def test_an_ipv6_network_is_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1:2:3") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("") == ""


async def test_drops_are_logged_in_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving() as served:
        for _ in range(100):
            await served.says(b"nonsense\r\n\r\n")
            served.connections.sweep()
        served.pass_time(1)
        lines = [record for record in caplog.records if "connections dropped" in record.message]
        assert len(lines) == 2
        told = [record.__dict__["dropped"] for record in lines]
        assert told == [{"malformed": 1}, {"malformed": 99}]


# Descriptors


async def test_without_descriptors_it_logs_waits_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    accept, asked = loop.sock_accept, 0

    async def without(sock: socket.socket) -> tuple[socket.socket, object]:
        nonlocal asked
        asked += 1
        if asked <= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", without)
    monkeypatch.setattr("authsvc.http_server.listening.RETRY_SECONDS", 0.001)
    async with serving() as served:
        assert await is_served(served)
        served.connections.sweep()
    assert asked <= 6
    assert "connections dropped: 3 descriptors" in caplog.text


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "room"),
    [
        (100_000, 100_000, None, 10_000),
        (-1, -1, None, 10_000),
        (1024, -1, 10_256, 10_000),
        (1024, 4096, 4096, 3840),
        (1024, 1_000_000, 10_256, 10_000),
        (256, 256, 256, 128),
    ],
)
def test_the_limit_on_descriptors_is_raised_as_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, room: int
) -> None:
    import resource

    raises: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raises.append(limits))
    assert descriptors.room_for(10_000) == room
    assert raises == ([] if raised is None else [(raised, hard)])


def test_a_limit_on_descriptors_that_cannot_be_raised_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import resource

    def forbidden(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, -1))
    monkeypatch.setattr(resource, "setrlimit", forbidden)
    assert descriptors.room_for(100_000) == 1024 - descriptors.RESERVED


# TLS


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A folder with a certificate."""
    return write_tls(tmp_path / "tls")


async def test_a_missing_handshake_has_a_time_limit_and_loses_its_place(tls: Path) -> None:
    files = str(tls / "server.pem"), str(tls / "server.key")
    trusting = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    async with (
        serving(tls=files, max_connections=4, header_timeout_seconds=10) as served,
        AsyncExitStack() as stack,
    ):
        silent = []
        for _ in range(40):
            silent.append(await stack.enter_async_context(await served.send(b"\x16")))
            assert len(served.connections) <= 4
        async with await served.connect(trusting) as peer:
            await peer.send(GET)
            assert await peer.answer() == (200, b"0")
        served.pass_time(10)
        for client in silent:
            assert await client.rest() == b""


async def test_bytes_that_are_not_tls_end_the_connection_quietly(
    tls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = str(tls / "server.pem"), str(tls / "server.key")
    async with serving(tls=files) as served:
        for _ in range(20):
            await served.says(GET)
        await served.until(lambda served: dropped(served) == {"tls": 20})
        served.connections.sweep()
        await served.until(lambda served: len(served.connections) == 0)
    assert [record.message for record in caplog.records] == ["connections dropped: 20 tls"]


# The end


async def test_stopping_closes_idle_connections() -> None:
    async with serving() as served, AsyncExitStack() as stack:
        idle = await stack.enter_async_context(await served.send(GET))
        assert (await idle.answer())[0] == 200
        half = await stack.enter_async_context(await served.send(HALF_A_HEAD))
        silent = await stack.enter_async_context(await served.connect())
        await served.until(lambda served: len(served.server.server_state.connections) == 3)
        served.server.config.timeout_graceful_shutdown = 60
        async with asyncio.timeout(BOUND_SECONDS):
            await served.server.shutdown()
        for peer in (idle, half, silent):
            assert await peer.rest() == b""


# Help


async def one(served: Served, *, received: int) -> Connection:
    """The only connection, once so many bytes have been received on it."""
    await served.until(
        lambda served: [connection.received for connection in served.connections] == [received]
    )
    (connection,) = served.connections
    return connection


async def not_reading(served: Served, raw: bytes = GET) -> Peer:
    """A client that sends a request and reads nothing."""
    peer = await served.connect()
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
    await peer.send(raw)
    return peer
