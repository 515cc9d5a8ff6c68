"""A stream's connection: when it writes, what it keeps, and how it notices that nobody is there."""

from __future__ import annotations

import asyncio
import gc
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable

import pytest

from authsvc.client.failures import AttemptError, Failure
from authsvc.client.http2 import connecting, connection
from authsvc.client.http2.connecting import connect
from authsvc.client.http2.connection import MAX_UNSENT_REPLIES, Connection
from authsvc.client.http2.frames import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    Frame,
    FrameReader,
    frame,
    widen,
)
from authsvc.client.stream import MAX_ENTRIES, ResolveStream
from authsvc.client.targets import Endpoint
from authsvc.domain.errors import Reason
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.wire import frames
from authsvc.wire.errors import STATUS_DETAILS_KEY
from tests.authsvc.client.fleet import BOUND_SECONDS
from tests.authsvc.client.http2.peer import (
    RESPONSE,
    TRAILERS,
    data,
    go_away,
    headers,
    message,
    new_call,
    settings,
)
from tests.support.sockets import serving_tcp

pytestmark = pytest.mark.anyio


class Wire(asyncio.Transport):
    """A transport that keeps each write."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.buffered = 0
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def sent(self) -> list[Frame]:
        """The frames of all writes since it was asked last."""
        written = b"".join(self.writes)
        self.writes.clear()
        return list(FrameReader().frames(written.removeprefix(PREFACE)))


async def wired(*pairs: tuple[int, int]) -> tuple[Connection, Wire]:
    """A connection that is connected; what it has sent so far is dropped."""
    made = Connection(new_call(), asyncio.get_running_loop())
    wire = Wire(made)
    made.connection_made(wire)
    made.data_received(settings(*pairs))
    await passes()
    wire.writes.clear()
    return made, wire


async def streamed(*pairs: tuple[int, int]) -> tuple[ResolveStream, Connection, Wire]:
    """As ``wired``, with a stream whose response has begun."""
    made, wire = await wired(*pairs)
    stream = ResolveStream(made, ())
    await passes()
    made.data_received(headers(*RESPONSE))
    wire.writes.clear()
    return stream, made, wire


async def passes(count: int = 3) -> None:
    """Let the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def ask(stream: ResolveStream, request: bytes = b"r") -> asyncio.Task[bytes]:
    """Ask, in a task."""
    return asyncio.create_task(stream.ask(request, BOUND_SECONDS))


def batches(sent: list[Frame]) -> list[RequestFrames]:
    """The batches in frames, one in each frame of DATA."""
    return [RequestFrames.FromString(it[3][5:]) for it in sent if it[0] == DATA and it[3]]


def answer(request_id: int, response: bytes) -> bytes:
    """DATA with one answer."""
    return data(message(frames.entry_head(request_id, frames.RESPONSE, len(response)) + response))


async def failure(task: asyncio.Task[bytes]) -> Failure:
    """Why a request fails."""
    with pytest.raises(AttemptError) as caught:
        await asyncio.wait_for(task, BOUND_SECONDS)
    return caught.value.failure


async def test_requests_of_one_pass_go_out_in_one_write_with_what_is_due_besides() -> None:
    stream, made, wire = await streamed()
    tasks = [ask(stream, b"%d" % number) for number in range(5)]
    made.data_received(frame(PING, 0, 0, bytes(8)))
    await passes()
    assert len(wire.writes) == 1
    sent = wire.sent()
    [batch] = batches(sent)
    assert (PING, ACK, 0, bytes(8)) in sent
    assert [it.request for it in batch.entries] == [b"0", b"1", b"2", b"3", b"4"]
    for entry in reversed(batch.entries):
        made.data_received(answer(entry.request_id, entry.request))
    assert await asyncio.gather(*tasks) == [b"0", b"1", b"2", b"3", b"4"]


async def test_requests_that_wait_for_the_window_form_the_next_batch() -> None:
    stream, made, wire = await streamed((4, 30))
    first = ask(stream, b"x" * 100)
    await passes()
    tasks = [first, *(ask(stream) for _ in range(3))]
    await passes()
    sent = wire.sent()
    assert sum(len(it[3]) for it in sent) == 30
    for _ in range(20):
        made.data_received(widen(1, 10))
        await passes()
    sent += wire.sent()
    stream_bytes = b"".join(it[3] for it in sent)
    size = int.from_bytes(stream_bytes[1:5])
    found = [
        RequestFrames.FromString(stream_bytes[5 : 5 + size]),
        RequestFrames.FromString(stream_bytes[10 + size :]),
    ]
    assert [len(batch.entries) for batch in found] == [1, 3]
    await stream.end()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    stream, made, wire = await streamed()
    made.pause_writing()
    kept, dropped = ask(stream, b"kept"), ask(stream, b"dropped")
    await passes()
    assert wire.writes == []
    dropped.cancel()
    await asyncio.wait((dropped,))
    assert [request for request, _ in stream._outbox.values()] == [b"kept"]
    made.resume_writing()
    await passes()
    [batch] = batches(wire.sent())
    assert [it.request for it in batch.entries] == [b"kept"]
    assert not batch.cancelled_request_ids
    made.data_received(answer(batch.entries[0].request_id, b"a"))
    assert await kept == b"a"


async def test_replies_to_a_peer_that_does_not_read_are_bounded() -> None:
    _, made, wire = await streamed()
    made.pause_writing()
    for _ in range(3):
        made.data_received(frame(PING, 0, 0, bytes(8)) * (MAX_UNSENT_REPLIES // 2))
        await passes()
    assert wire.is_closed
    assert not wire.writes


async def test_many_requests_go_out_in_batches_that_a_server_takes() -> None:
    stream, _, wire = await streamed((4, 2**31 - 1))
    tasks = [ask(stream) for _ in range(MAX_ENTRIES + 1)]
    await passes()
    assert len(wire.writes) == 1
    assert [len(batch.entries) for batch in batches(wire.sent())] == [MAX_ENTRIES, 1]
    await stream.end()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cancelled_request_is_cancelled_at_the_server() -> None:
    stream, _, wire = await streamed()
    task = ask(stream)
    await passes()
    [batch] = batches(wire.sent())
    task.cancel()
    await asyncio.wait((task,))
    await passes()
    [cancelling] = batches(wire.sent())
    assert list(cancelling.cancelled_request_ids) == [batch.entries[0].request_id]


async def test_a_request_that_is_cancelled_in_the_pass_that_would_send_it_is_not_sent() -> None:
    stream, _, wire = await streamed()
    kept, cancelled = ask(stream, b"kept"), ask(stream, b"cancelled")
    await asyncio.sleep(0)
    cancelled.cancel()
    await passes()
    entries = [entry for batch in batches(wire.sent()) for entry in batch.entries]
    assert [it.request for it in entries] == [b"kept"]
    await stream.end()
    await asyncio.gather(kept, cancelled, return_exceptions=True)


@pytest.mark.parametrize(
    ("received", "code"),
    [(frame(PING, 0, 0, b"short"), 6), (widen(1, 0), 1), (data(b"\x01" + bytes(4)), 1)],
)
async def test_a_peer_that_breaks_the_rules_is_told_so(received: bytes, code: int) -> None:
    stream, made, wire = await streamed()
    task = ask(stream)
    await passes()
    wire.writes.clear()
    made.data_received(received)
    why = await failure(task)
    assert why.may_repeat
    assert [(it[0], it[3]) for it in wire.sent()] == [(GOAWAY, bytes(4) + code.to_bytes(4))]
    assert wire.is_closed
    assert not stream.usable
    with pytest.raises(AttemptError):
        await stream.ask(b"r", BOUND_SECONDS)


async def test_a_request_that_was_certainly_not_read_may_be_sent_again() -> None:
    stream, made, _ = await streamed()
    task = ask(stream)
    await passes()
    made.data_received(go_away(0))
    assert (await failure(task)).safe_to_retry


async def test_a_connection_that_goes_away_answers_what_is_in_flight() -> None:
    stream, made, wire = await streamed()
    task = ask(stream)
    await passes()
    wire.writes.clear()
    made.data_received(go_away(2**31 - 1))
    assert not stream.usable
    assert made.outdated.done()
    await passes()
    assert [it[:2] for it in wire.sent()] == [(DATA, END_STREAM)]
    made.data_received(answer(1, b"a") + headers(*TRAILERS, end=True))
    assert await task == b"a"
    await asyncio.wait_for(made.closed, BOUND_SECONDS)


async def test_a_stream_that_has_finished_sends_nothing_more() -> None:
    stream, made, wire = await streamed()
    kept, cancelled = ask(stream), ask(stream)
    await passes()
    stream.finish()
    await passes()
    assert wire.sent()[-1][:2] == (DATA, END_STREAM)
    cancelled.cancel()
    await asyncio.wait((cancelled,))
    await passes()
    assert wire.sent() == []
    made.data_received(answer(1, b"a") + headers(*TRAILERS, end=True))
    assert await kept == b"a"


async def test_a_connection_closes_although_its_peer_does_not_read() -> None:
    stream, made, wire = await streamed()
    wire.buffered = 1
    made.data_received(headers(*TRAILERS, end=True))
    assert wire.is_closed
    assert not stream.usable


async def test_answers_that_nobody_waits_for_are_dropped() -> None:
    stream, made, _ = await streamed()
    task = ask(stream)
    await passes()
    made.data_received(
        answer(99, b"x") + data(message(b"\xff")) + answer(1, b"a") + answer(1, b"b")
    )
    assert await task == b"a"


async def test_an_error_that_cannot_be_read_is_an_error() -> None:
    stream, made, _ = await streamed()
    task = ask(stream)
    await passes()
    made.data_received(data(message(frames.entry_head(1, frames.ERROR, 2) + b"\xff\xff")))
    why = await failure(task)
    assert why.error.reason is Reason.SERVICE_UNAVAILABLE
    assert not why.may_repeat


# Timers.


async def test_a_request_in_time_out_asks_whether_the_peer_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, made, wire = await streamed()
    tasks = [asyncio.create_task(stream.ask(b"r", 0.0)) for _ in range(2)]
    assert (await failure(tasks[0])).timed_out
    assert (await failure(tasks[1])).timed_out
    await passes()
    # Once for both: authsvc ends the connection of a client that pings too often.
    assert [it[0] for it in wire.sent()].count(PING) == 1
    monkeypatch.setattr(made, "_heard_at", float("-inf"))
    waiting = ask(stream)
    await passes()
    made._expect_answer()
    assert (await failure(waiting)).may_repeat
    assert wire.is_closed


async def test_each_request_has_a_deadline_of_its_own() -> None:
    stream, _, _ = await streamed()
    long = asyncio.create_task(stream.ask(b"r", BOUND_SECONDS))
    short = [asyncio.create_task(stream.ask(b"r", 0.01 * it)) for it in (3, 1, 2)]
    await asyncio.wait_for(asyncio.wait(short), BOUND_SECONDS)
    assert [(await failure(task)).timed_out for task in short] == [True] * 3
    assert not long.done()
    assert stream._waiting._due > asyncio.get_running_loop().time() + 1.0
    await stream.end()
    assert not (await failure(long)).timed_out


async def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, made, wire = await streamed((4, 0))
    task = asyncio.create_task(stream.ask(b"r", 0.0))
    assert (await failure(task)).timed_out
    assert not made.closed.done()
    monkeypatch.setattr(made, "_cleared_at", float("-inf"))
    waiting = ask(stream)
    task = asyncio.create_task(stream.ask(b"r", 0.0))
    assert (await failure(task)).timed_out
    assert wire.is_closed
    assert (await failure(waiting)).may_repeat


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings soon."""
    monkeypatch.setattr(connection, "KEEPALIVE_SECONDS", 0.02)
    monkeypatch.setattr(connection, "PING_TIMEOUT_SECONDS", 0.1)


@pytest.mark.usefixtures("hurried")
async def test_a_silent_peer_is_gone() -> None:
    async def speak_once(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(settings())
        await reader.read(-1)

    async with serving_tcp(speak_once) as address, asyncio.timeout(BOUND_SECONDS):
        made = await connect(endpoint(address), None, STATUS_DETAILS_KEY)
        stream = ResolveStream(made, ())
        why = await failure(ask(stream))
        assert "the peer is gone" in str(why.error.detail)
        await made.closed


@pytest.mark.usefixtures("hurried")
async def test_a_peer_that_answers_pings_is_there() -> None:
    enough = asyncio.Event()

    async def answer_pings(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(settings())
        await reader.readexactly(len(PREFACE))
        pings, cut = 0, FrameReader()
        while received := await reader.read(65_536):
            for kind, flags, _, payload in cut.frames(received):
                if kind == PING and not flags & ACK:
                    pings += 1
                    writer.write(frame(PING, ACK, 0, payload))
            if pings >= 5:
                enough.set()

    async with serving_tcp(answer_pings) as address, asyncio.timeout(BOUND_SECONDS):
        made = await connect(endpoint(address), None, STATUS_DETAILS_KEY)
        await enough.wait()
        assert made.is_usable
        await made.shut(0.0)


# Connecting.


def endpoint(address: tuple[str, int]) -> Endpoint:
    """Where a server of plain sockets listens."""
    return Endpoint(f"{address[0]}:{address[1]}")


async def close_at_once(_: StreamReader, writer: StreamWriter) -> None:
    """A peer that is not there for long."""
    writer.close()


async def speak_http_1(reader: StreamReader, writer: StreamWriter) -> None:
    """A peer of another protocol."""
    await reader.readline()
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read(-1)


@pytest.mark.parametrize("peer", [close_at_once, speak_http_1])
async def test_a_peer_that_does_not_speak_http_2_is_no_connection(
    peer: Callable[[StreamReader, StreamWriter], object],
) -> None:
    async with serving_tcp(peer) as address, asyncio.timeout(BOUND_SECONDS):  # type: ignore[arg-type] # coroutine functions both
        with pytest.raises(ConnectionError):
            await connect(endpoint(address), None, STATUS_DETAILS_KEY)


async def test_connecting_that_is_cancelled_leaves_nothing_to_log() -> None:
    logged: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logged.append(context))

    async def say_nothing(reader: StreamReader, _: StreamWriter) -> None:
        await reader.read(-1)

    async with serving_tcp(say_nothing) as address, asyncio.timeout(BOUND_SECONDS):
        # Between any two passes of the event loop, as a client is closed at any time.
        for count in range(10):
            task = asyncio.create_task(connect(endpoint(address), None, STATUS_DETAILS_KEY))
            await passes(count)
            task.cancel()
            await asyncio.wait([task])
            del task
        await passes(10)
        gc.collect()

    assert logged == []


@pytest.mark.parametrize("tls", [False, True])
async def test_connecting_takes_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.05)
    ended = asyncio.Event()

    async def say_nothing(reader: StreamReader, _: StreamWriter) -> None:
        await reader.read(-1)
        ended.set()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if tls else None
    async with serving_tcp(say_nothing) as address, asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(TimeoutError):
            await connect(endpoint(address), context, STATUS_DETAILS_KEY)
        # Nothing of it is left open.
        await ended.wait()


async def test_headers_are_sent_with_the_first_requests() -> None:
    made, wire = await wired()

    async def ask_first() -> bytes:
        stream = ResolveStream(made, (("authorization", "Bearer t"),))
        assert "Bearer t" not in repr(stream)
        return await stream.ask(b"r", BOUND_SECONDS)

    task = asyncio.create_task(ask_first())
    await passes()
    assert len(wire.writes) == 1
    assert [it[0] for it in wire.sent()] == [HEADERS, DATA]
    await made.shut(0.0)
    await failure(task)
