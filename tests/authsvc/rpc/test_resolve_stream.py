"""``ResolveSessionStream`` over real gRPC: order, errors, cancellation, back-pressure, ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import pytest
from grpc import aio

from authsvc.access.callers import Caller, Callers
from authsvc.access.limits import CallerLimits
from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.access.usage import Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.rpc.admission import Admission
from authsvc.rpc.errors import ends_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.resolve_stream import MAX_ENTRIES, MAX_UNANSWERED, ResolveStream
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire import errors as error_wire
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import serving, settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

BOUND_SECONDS = TIMEOUT_SECONDS
LOCAL = Caller("local", frozenset({RESOURCE}))

Call = aio.StreamStreamCall[pb.ResolveSessionStreamRequest, pb.ResolveSessionStreamResponse]


@dataclass
class Scripted:
    """Scripted responses: ``hold…`` waits, ``refuse`` and ``break`` fail, the rest is cached.

    Attributes:
        begun: the sessions of what was not known.
        cancelled: of what was given up.
        go_on: what waits, waits for it.
    """

    begun: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    known: dict[bytes, bytes] = field(default_factory=dict)

    def cached(self, request_digest: bytes, caller: Caller) -> bytes | None:
        return self.known.get(request_digest)

    def rejection(self, request: pb.ResolveSessionRequest, caller: Caller) -> None:
        """Rejects nothing, and may fail."""
        if request.session_id == "break now":
            raise RuntimeError("a secret")

    def failed(self, error: Exception) -> None:
        """Counts nothing."""

    async def resolve(
        self,
        request: pb.ResolveSessionRequest,
        request_digest: bytes,
        caller: Caller,
        traceparent: str,
    ) -> bytes:
        session_id = request.session_id
        self.begun.append(session_id)
        if session_id == "refuse":
            raise AuthError(Reason.TOKEN_EXPIRED)
        if session_id == "break":
            raise RuntimeError("a secret")
        if session_id.startswith("hold"):
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.append(session_id)
                raise
        answer = pb.ResolveSessionResponse(session=pb.Session(id=session_id)).SerializeToString()
        self.known[request_digest] = answer
        return answer


class Inbox:
    """A context whose batches come from the test."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[RequestFrames] = asyncio.Queue()

    async def read(self) -> RequestFrames:
        return await self.batches.get()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


@dataclass
class Stage:
    """A server with one RPC, and its parts."""

    answers: Scripted
    stopping: asyncio.Event
    channel: aio.Channel
    stub: pb_grpc.AuthServiceAsyncStub
    ended: asyncio.Event


@asynccontextmanager
async def stage(
    callers: Callers | None = None, limits: CallerLimits | None = None
) -> AsyncIterator[Stage]:
    answers, stopping, ended = Scripted(), asyncio.Event(), asyncio.Event()
    usages = Usages(limits or CallerLimits(), asyncio.get_running_loop().time)
    admission = Admission(callers or Callers([], local=LOCAL), usages)

    @ends_with_status
    async def serve(answers: Scripted, requests: object, context: Context) -> None:
        with admission.stream(context) as admitted:
            await ResolveStream(context, admission, admitted, answers).serve(stopping)

    async def handle(requests: object, context: Context) -> None:
        try:
            await serve(answers, requests, context)
        finally:
            ended.set()

    server = aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ResolveSessionStream": grpc.stream_stream_rpc_method_handler(
            handle, request_deserializer=RequestFrames.FromString
        )
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("authsvc.v1.AuthService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with asyncio.timeout(BOUND_SECONDS), aio.insecure_channel(f"127.0.0.1:{port}") as it:
            stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(it)
            yield Stage(answers, stopping, it, stub, ended)
    finally:
        answers.go_on.set()
        await server.stop(None)


def batch(
    *session_ids: str, first: int = 1, resource: str = RESOURCE
) -> pb.ResolveSessionStreamRequest:
    return pb.ResolveSessionStreamRequest(
        entries=[
            pb.ResolveSessionStreamRequest.Entry(
                request_id=first + index,
                request=pb.ResolveSessionRequest(session_id=session_id, resource=resource),
            )
            for index, session_id in enumerate(session_ids)
        ]
    )


async def ended_by(call: Call, *batches: pb.ResolveSessionStreamRequest) -> Reason | None:
    """Why the server ends the call, at the latest when it has these batches."""

    async def write() -> None:
        for each in batches:
            await call.write(each)

    def stop_writing(_: object) -> None:
        # The write under way would fail, and replace the server's status by INTERNAL.
        writing.cancel()

    writing = asyncio.create_task(write())
    call.add_done_callback(stop_writing)
    with pytest.raises(aio.AioRpcError) as caught:
        await call.read()
    await asyncio.gather(writing, return_exceptions=True)
    return reason(caught.value)


async def received(call: Call, count: int) -> list[pb.ResolveSessionStreamResponse.Entry]:
    entries: list[pb.ResolveSessionStreamResponse.Entry] = []
    while len(entries) < count:
        message = await call.read()
        assert isinstance(message, pb.ResolveSessionStreamResponse)
        entries.extend(message.entries)
    assert len(entries) == count
    return entries


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the server is in this process, and bounded
        await asyncio.sleep(0)


def reason(error: aio.AioRpcError) -> Reason | None:
    details = error.trailing_metadata().get(error_wire.STATUS_DETAILS_KEY)
    assert isinstance(details, bytes)
    told = error_wire.error_of(
        error_wire.rpc_status_of(AuthError(Reason.OVERLOADED)).FromString(details)
    )
    return told.reason if told else None


async def test_responses_are_sent_as_they_complete() -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        await call.write(batch("hold", "a", "b"))
        early = await received(call, 2)
        await call.write(batch("c", first=4))
        early += await received(call, 1)
        there.answers.go_on.set()
        late = await received(call, 1)
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK
    assert {(one.request_id, one.response.session.id) for one in early} == {
        (2, "a"),
        (3, "b"),
        (4, "c"),
    }
    assert (late[0].request_id, late[0].response.session.id) == (1, "hold")


async def test_cached_responses_are_sent_in_one_batch() -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        names = [f"s{number}" for number in range(64)]
        await call.write(batch(*names))
        await received(call, 64)
        await call.write(batch(*names, first=1_000_000))
        message = await call.read()
        assert isinstance(message, pb.ResolveSessionStreamResponse)
        found = [(one.request_id, one.response.session.id) for one in message.entries]
        assert found == [(1_000_000 + index, name) for index, name in enumerate(names)]
        assert len(there.answers.begun) == 64
        call.cancel()


async def test_an_error_is_of_one_entry() -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        await call.write(batch("refuse", "break", "a"))
        await call.write(batch("b", first=4, resource="https://other.example/mcp"))
        await call.write(batch("break now", first=5))
        entries = {one.request_id: one for one in await received(call, 5)}
        call.cancel()
    assert entries[3].response.session.id == "a"
    refused, broken, forbidden, early = (entries[number].error for number in (1, 2, 4, 5))
    expired = error_wire.error_of(refused)
    assert expired is not None
    assert expired.reason is Reason.TOKEN_EXPIRED
    for failed in (broken, early):
        assert (failed.code, failed.message, len(failed.details)) == (13, "internal error", 0)
    not_theirs = error_wire.error_of(forbidden)
    assert not_theirs is not None
    assert not_theirs.reason is Reason.CALLER_NOT_ALLOWED


async def test_a_cancelled_request_has_no_response() -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        await call.write(batch("hold-1", "hold-2"))
        await until(lambda: len(there.answers.begun) == 2)
        await call.write(pb.ResolveSessionStreamRequest(cancelled_request_ids=[1, 99]))
        await until(lambda: there.answers.cancelled == ["hold-1"])
        there.answers.go_on.set()
        [entry] = await received(call, 1)
        await call.done_writing()
        assert await call.read() is aio.EOF
    assert entry.request_id == 2


async def test_a_disconnect_cancels_all_requests() -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        await call.write(batch("hold-1", "hold-2"))
        await until(lambda: len(there.answers.begun) == 2)
        call.cancel()
        await there.ended.wait()
        assert sorted(there.answers.cancelled) == ["hold-1", "hold-2"]


async def test_reading_stops_while_too_many_requests_are_unanswered() -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        rounds = MAX_UNANSWERED // MAX_ENTRIES + 2
        for number in range(rounds):
            names = [f"hold-{number}-{index}" for index in range(MAX_ENTRIES)]
            await call.write(batch(*names, first=number * MAX_ENTRIES))
        await until(lambda: len(there.answers.begun) == MAX_UNANSWERED)
        probe = there.stub.ResolveSessionStream()
        await probe.write(batch("a"))
        await received(probe, 1)
        probe.cancel()
        assert len(there.answers.begun) == MAX_UNANSWERED + 1
        there.answers.go_on.set()
        assert len(await received(call, rounds * MAX_ENTRIES)) == rounds * MAX_ENTRIES
        call.cancel()


async def test_a_stopping_server_answers_the_requests_that_it_has_read() -> None:
    async with stage() as there:
        busy, idle = there.stub.ResolveSessionStream(), there.stub.ResolveSessionStream()
        await busy.write(batch("hold"))
        await idle.write(batch("a"))
        await received(idle, 1)
        await until(lambda: "hold" in there.answers.begun)
        there.stopping.set()
        assert await idle.read() is aio.EOF
        there.answers.go_on.set()
        assert len(await received(busy, 1)) == 1
        assert await busy.read() is aio.EOF
        assert {await busy.code(), await idle.code()} == {grpc.StatusCode.OK}


@pytest.mark.parametrize(
    "wrong",
    [batch(*["a"] * (MAX_ENTRIES + 1)), batch("hold", first=1)],
    ids=["too many", "an id in use"],
)
async def test_an_invalid_batch_ends_the_stream(wrong: pb.ResolveSessionStreamRequest) -> None:
    async with stage() as there:
        call = there.stub.ResolveSessionStream()
        assert await ended_by(call, batch("hold"), wrong) is Reason.ARGUMENT_INVALID
        await there.ended.wait()
    assert there.answers.cancelled == ["hold"]


async def test_bytes_that_are_no_request_are_an_error_of_their_entry() -> None:
    async with stage() as there:
        method: aio.StreamStreamMultiCallable[bytes, bytes] = there.channel.stream_stream(
            "/authsvc.v1.AuthService/ResolveSessionStream"
        )
        call = method()
        frames = RequestFrames(entries=[RequestFrames.Frame(request_id=1, request=b"\xff")])
        await call.write(frames.SerializeToString())
        answer = await call.read()
        assert isinstance(answer, bytes)
        [entry] = pb.ResolveSessionStreamResponse.FromString(answer).entries
        told = error_wire.error_of(entry.error)
        assert told is not None
        assert told.reason is Reason.ARGUMENT_INVALID
        call.cancel()


async def test_each_entry_counts_as_a_call() -> None:
    # The stream is one, too.
    async with stage(limits=CallerLimits(max_concurrent_calls_per_caller=4)) as there:
        call = there.stub.ResolveSessionStream()
        await call.write(batch("hold-1", "hold-2", "hold-3", "hold-4"))
        [refused] = await received(call, 1)
        told = error_wire.error_of(refused.error)
        assert told is not None
        assert (refused.request_id, told.reason) == (4, Reason.OVERLOADED)
        await call.write(pb.ResolveSessionStreamRequest(cancelled_request_ids=[1]))
        await until(lambda: there.answers.cancelled == ["hold-1"])
        await call.write(batch("a", first=5))
        [served] = await received(call, 1)
        assert served.response.session.id == "a"
        call.cancel()


async def test_a_service_token_that_is_withdrawn_ends_its_stream(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "token"
    token = token_hex(16)
    path.write_text(token)
    proven = Caller("one", frozenset({RESOURCE}), token_files=(ServiceTokenFile(path, clock),))
    metadata = (("authorization", f"Bearer {token}"),)
    async with stage(Callers([proven])) as there:
        stranger = there.stub.ResolveSessionStream()
        assert await ended_by(stranger, batch("a")) is Reason.CALLER_NOT_ALLOWED

        call = there.stub.ResolveSessionStream(metadata=metadata)
        await call.write(batch("a"))
        await received(call, 1)
        path.unlink()
        clock.now += 10
        assert await ended_by(call, batch("a", first=2)) is Reason.CALLER_NOT_ALLOWED
    assert there.answers.begun == ["a"]


@pytest.mark.parametrize("under_way", [(), ("hold",)])
async def test_a_service_token_that_is_withdrawn_ends_its_idle_stream(
    tmp_path: Path, clock: Clock, under_way: tuple[str, ...]
) -> None:
    path = tmp_path / "token"
    token = token_hex(16)
    path.write_text(token)
    proven = Caller("one", frozenset({RESOURCE}), token_files=(ServiceTokenFile(path, clock),))
    metadata = (("authorization", f"Bearer {token}"),)
    async with stage(Callers([proven])) as there, asyncio.timeout(BOUND_SECONDS):
        call = there.stub.ResolveSessionStream(metadata=metadata)
        await call.write(batch("a", *under_way))
        await received(call, 1)
        path.unlink()
        clock.now += 10
        assert await ended_by(call) is Reason.CALLER_NOT_ALLOWED


async def test_a_service_token_that_is_withdrawn_ends_a_stream_that_is_half_closed(
    tmp_path: Path, clock: Clock
) -> None:
    """The pending responses are for a caller that is no longer registered."""
    path = tmp_path / "token"
    token = token_hex(16)
    path.write_text(token)
    proven = Caller("one", frozenset({RESOURCE}), token_files=(ServiceTokenFile(path, clock),))
    metadata = (("authorization", f"Bearer {token}"),)
    async with stage(Callers([proven])) as there, asyncio.timeout(BOUND_SECONDS):
        call = there.stub.ResolveSessionStream(metadata=metadata)
        await call.write(batch("hold"))
        await call.done_writing()
        await until(lambda: there.answers.begun == ["hold"])
        path.unlink()
        clock.now += 10
        assert await ended_by(call) is Reason.CALLER_NOT_ALLOWED
        await until(lambda: there.answers.cancelled == ["hold"])


async def test_two_tokens_on_one_session_each_get_their_own_principal(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    tokens = {name: idp.token("alice", roles=[name]) for name in ("reader", "analyst")}
    async with serving(settings_for(tmp_path, idp), clock) as service:
        await service.client.resolve("s", tokens["reader"], resource=RESOURCE, create=True)
        names = ["reader", "analyst"] * 100
        answers = await asyncio.gather(
            *(service.client.resolve("s", tokens[name], resource=RESOURCE) for name in names)
        )
    found = [answer.principal.roles for answer in answers if answer.principal]
    assert found == [(name,) for name in names]


async def test_a_stream_that_ends_before_its_entries_begin_leaves_nothing_in_flight() -> None:
    limits = CallerLimits(max_concurrent_calls_per_caller=3)
    usages = Usages(limits, asyncio.get_running_loop().time)
    inbox: Any = Inbox()
    for _ in range(3):
        admission = Admission(Callers([], local=LOCAL), usages)
        with admission.stream(inbox) as admitted:
            stream = ResolveStream(inbox, admission, admitted, Scripted())
            serving = asyncio.create_task(stream.serve(asyncio.Event()))
            await asyncio.sleep(0.01)
            frames = batch("hold-1", "hold-2").SerializeToString()
            inbox.batches.put_nowait(RequestFrames.FromString(frames))
            # In the pass in which the batch is read.
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    for _ in range(3):
        usages.of(LOCAL.name).begin_call()
