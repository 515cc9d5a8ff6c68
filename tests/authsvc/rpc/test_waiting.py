"""Calls in flight and waiting calls are bounded, for each caller and for unauthenticated ones."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from authsvc.access.callers import Callers
from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Capacity, Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.rpc.admission import Admission
from authsvc.rpc.waiting import BoundedHandlers
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire.admin import RESUME_TOKEN_KEY
from tests.support.checks import CHECK, with_gateways
from tests.support.clock import Clock
from tests.support.http2 import HalfCalls, UnreadAnswers
from tests.support.service import settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

BOUND_SECONDS = 60.0
TOKENS = {name: secrets.token_urlsafe(32) for name in ("one", "other", "operator")}
SERVICE = "/authsvc.v1.AuthService"
HALF = ("ResolveSession", "CreateSession", "RevokeSession")


@asynccontextmanager
async def serving(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, **limits: float
) -> AsyncIterator[str]:
    """A server of two callers and an operator, which have service tokens."""
    callers: list[dict[str, object]] = []
    for name, resource in (("one", RESOURCE), ("other", OTHER_RESOURCE)):
        (tmp_path / name).write_text(TOKENS[name])
        callers.append(
            {"name": name, "resources": [resource], "service_token_files": [tmp_path / name]}
        )
    operator = hashlib.sha256(TOKENS["operator"].encode()).hexdigest()
    callers.append({"name": "operator", "admin": True, "service_token_sha256": [operator]})
    settings = settings_for(tmp_path, idp, resources=(), callers=callers, limits=limits)
    async with asyncio.timeout(BOUND_SECONDS), running(settings, clock=clock) as address:
        yield address


def proof(name: str) -> Sequence[tuple[str, str]]:
    return (("authorization", f"Bearer {TOKENS[name]}"),)


async def resolved(channel: aio.Channel, name: str, resource: str) -> pb.ResolveSessionResponse:
    stub = pb_grpc.AuthServiceStub(channel)
    request = pb.ResolveSessionRequest(resource=resource)
    answer = await stub.ResolveSession(request, metadata=proof(name), timeout=BOUND_SECONDS)
    assert isinstance(answer, pb.ResolveSessionResponse)
    return answer


@pytest.mark.parametrize("method", [*(f"{SERVICE}/{name}" for name in HALF), "health"])
async def test_incomplete_calls_of_unauthenticated_callers_do_not_block_others(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, method: str
) -> None:
    method = "/grpc.health.v1.Health/Check" if method == "health" else method
    limits = {
        "max_concurrent_streams_per_connection": 10_000,
        "max_unauthenticated_calls": 20,
        "max_concurrent_calls": 100,
    }
    async with (
        serving(tmp_path, clock, idp, **limits) as address,
        aio.insecure_channel(address) as channel,
    ):
        peer = HalfCalls(address, method)
        await peer.begin(500)
        # All but those that may wait are rejected at once.
        waiting = 20 if method.startswith(SERVICE) else 40
        await peer.until(lambda: len(peer.ended) >= 500 - waiting)
        await resolved(channel, "one", RESOURCE)
        await resolved(channel, "other", OTHER_RESOURCE)
        health: Any = HealthStub(channel)  # its stubs are without methods
        answer = await health.Check(HealthCheckRequest(), timeout=BOUND_SECONDS)
        assert answer.status == HealthCheckResponse.SERVING
        peer.close()
        # Their places are free again.
        later = HalfCalls(address, method)
        await later.begin(1)
        await resolved(channel, "one", RESOURCE)
        later.close()


@pytest.mark.parametrize(
    "method", [CHECK, f"{SERVICE}/ResolveSession", "/grpc.health.v1.Health/Check"]
)
async def test_fewer_incomplete_calls_wait_where_requests_may_be_longer(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, method: str
) -> None:
    """The request of each may be there but for its last byte."""
    limits = {"max_concurrent_streams_per_connection": 10_000, "max_unauthenticated_calls": 20}
    (tmp_path / "one").write_text(TOKENS["one"])
    caller = {"name": "one", "resources": [RESOURCE], "service_token_files": [tmp_path / "one"]}
    tables: dict[str, Any] = with_gateways()
    settings = settings_for(tmp_path, idp, resources=(), callers=[caller], limits=limits, **tables)
    async with (
        asyncio.timeout(BOUND_SECONDS),
        running(settings, clock=clock) as address,
        aio.insecure_channel(address) as channel,
    ):
        peer = HalfCalls(address, method)
        await peer.begin(500)
        waiting = 8 if "Health" in method else 4
        await peer.until(lambda: len(peer.ended) >= 500 - waiting)
        await resolved(channel, "one", RESOURCE)
        peer.close()


async def test_incomplete_calls_count_against_their_caller(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    limits = {
        "max_concurrent_streams_per_connection": 10_000,
        "max_unauthenticated_calls": 20,
        "max_concurrent_calls": 100,
        "request_timeout_seconds": 600,
    }
    async with (
        serving(tmp_path, clock, idp, **limits) as address,
        aio.insecure_channel(address) as channel,
    ):
        peer = HalfCalls(address, f"{SERVICE}/ResolveSession", TOKENS["one"])
        await peer.begin(500)
        # Reserved for one of three callers: 16. Shared: 52.
        await peer.until(lambda: len(peer.ended) >= 500 - 20 - 68)
        await resolved(channel, "other", OTHER_RESOURCE)
        assert len(peer.ended) == 500 - 20 - 68
        peer.close()


async def refused(channel: aio.Channel) -> tuple[object, object, object]:
    """The status that an unauthenticated caller gets."""
    stub: Any = pb_grpc.AuthServiceStub(channel)
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.ResolveSession(pb.ResolveSessionRequest(), timeout=BOUND_SECONDS)
    error = caught.value
    return error.code(), error.details(), error.trailing_metadata()


@pytest.mark.parametrize("method", [f"{SERVICE}/ResolveSession", f"{SERVICE}/CreateSession"])
async def test_failed_calls_that_are_not_read_are_bounded(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, method: str
) -> None:
    async with (
        serving(tmp_path, clock, idp, max_unauthenticated_calls=20) as address,
        aio.insecure_channel(address) as channel,
    ):
        before = await refused(channel)
        peer = UnreadAnswers(address, method)
        await peer.ask(500)
        await peer.until(lambda: len(peer.ended) == 480)
        await resolved(channel, "one", RESOURCE)
        assert await refused(channel) == before
        peer.close()


def has_ended(peer: HalfCalls, calls: int) -> bool:
    return len(peer.ended) == calls


@pytest.mark.parametrize("half_calls", [0, 20])
async def test_health_responses_that_are_not_read_are_bounded(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, half_calls: int
) -> None:
    limits = {"max_unauthenticated_calls": 20}
    settings = settings_for(tmp_path, idp, listen="127.0.0.1:0", limits=limits)
    async with asyncio.timeout(BOUND_SECONDS), running(settings, clock=clock) as address:
        half = HalfCalls(address, f"{SERVICE}/ResolveSession")
        await half.begin(half_calls)
        peers = [UnreadAnswers(address, "/grpc.health.v1.Health/Check") for _ in range(3)]
        for peer, left in zip(peers, (20, 1, 1), strict=True):
            await peer.ask(100)
            await peer.until(partial(has_ended, peer, 100 - left))
        async with aio.insecure_channel(address) as channel:
            health: Any = HealthStub(channel)
            for _ in range(3):
                answer = await health.Check(HealthCheckRequest(), timeout=BOUND_SECONDS)
                assert answer.status == HealthCheckResponse.SERVING
        for connection in (*peers, half):
            connection.close()


async def test_a_call_without_a_request_times_out(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    limits = {"max_unauthenticated_calls": 1, "request_timeout_seconds": 0.001}
    async with serving(tmp_path, clock, idp, **limits) as address:
        peer = HalfCalls(address, f"{SERVICE}/ResolveSession", TOKENS["one"])
        await peer.begin(10)
        await peer.until(lambda: len(peer.ended) == 9)
        peer.close()


async def test_calls_that_begin_at_once_are_all_answered(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    async with serving(tmp_path, clock, idp) as address, AsyncExitStack() as closing:
        apart = (("grpc.use_local_subchannel_pool", 1),)
        channels = [
            await closing.enter_async_context(aio.insecure_channel(address, options=apart))
            for _ in range(20)
        ]
        # gRPC's own bound on calls that nobody has accepted yet is 1,000.
        calls = (resolved(channel, "one", RESOURCE) for channel in channels for _ in range(100))
        answers = await asyncio.gather(*calls)
        assert len(answers) == 2_000


async def test_connections_are_bounded(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    async with (
        serving(tmp_path, clock, idp, max_connections=3) as address,
        aio.insecure_channel(address) as channel,
    ):
        await resolved(channel, "one", RESOURCE)
        peers = [await asyncio.open_unix_connection(address.removeprefix("unix:")) for _ in "1234"]
        greetings = (reader.readexactly(9) for reader, _ in peers)
        ends = [
            isinstance(greeting, OSError | EOFError)
            for greeting in await asyncio.gather(*greetings, return_exceptions=True)
        ]
        assert sum(ends) == 2
        await resolved(channel, "one", RESOURCE)
        for _, writer in peers:
            writer.close()
        async with aio.insecure_channel(address) as other:
            await other.channel_ready()
            await resolved(other, "other", OTHER_RESOURCE)


async def test_streams_of_a_connection_are_bounded(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    limits = {"max_concurrent_streams_per_connection": 3}
    async with (
        serving(tmp_path, clock, idp, **limits) as address,
        aio.insecure_channel(address) as channel,
    ):
        peer = HalfCalls(address, f"{SERVICE}/ResolveSession")
        await peer.begin(500)
        await peer.until(lambda: len(peer.ended) == 497)
        # A client that respects the bound, which it learns on connecting, queues further calls.
        await resolved(channel, "one", RESOURCE)
        answers = (resolved(channel, "one", RESOURCE) for _ in range(50))
        assert len(await asyncio.gather(*answers)) == 50
        peer.close()


def streams(channel: aio.Channel) -> dict[str, Callable[[], Any]]:
    """Begins one stream of each kind, of the caller "one"."""
    health: Any = HealthStub(channel)  # their stubs are without methods
    reflection: Any = ServerReflectionStub(channel)  # type: ignore[arg-type]
    auth: Any = pb_grpc.AuthServiceStub(channel)

    def resolve(name: str = "one", resource: str = RESOURCE) -> object:
        entry = pb.ResolveSessionStreamRequest.Entry(
            request_id=1, request=pb.ResolveSessionRequest(resource=resource)
        )
        batches = iter([pb.ResolveSessionStreamRequest(entries=[entry])])

        async def sent() -> AsyncIterator[pb.ResolveSessionStreamRequest]:
            for batch in batches:
                yield batch
            await asyncio.Event().wait()

        return auth.ResolveSessionStream(sent(), metadata=proof(name))

    async def asked() -> AsyncIterator[ServerReflectionRequest]:
        yield ServerReflectionRequest(list_services="")
        await asyncio.Event().wait()

    return {
        "resolve": resolve,
        "other's": lambda: resolve("other", OTHER_RESOURCE),
        "watch": lambda: health.Watch(HealthCheckRequest(), metadata=proof("one")),
        "reflection": lambda: reflection.ServerReflectionInfo(asked(), metadata=proof("one")),
    }


async def first(call: AsyncIterable[object]) -> object:
    async for message in call:
        return message
    return None


@pytest.mark.parametrize("kind", ["resolve", "watch", "reflection"])
async def test_streams_of_a_caller_are_bounded_and_do_not_block_others(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, kind: str
) -> None:
    limits = {"max_streams_per_caller": 4, "max_concurrent_calls": 8}
    async with (
        serving(tmp_path, clock, idp, **limits) as address,
        aio.insecure_channel(address) as channel,
        AsyncExitStack() as stack,
    ):
        begin = streams(channel)
        held = [begin["watch" if kind != "resolve" else "reflection"]()]
        held += [begin[kind]() for _ in range(3)]
        for call in held:
            stack.callback(call.cancel)
            assert await first(call) is not None
        with pytest.raises(aio.AioRpcError) as caught:
            await first(begin[kind]())
        assert "try again" in str(caught.value.details()).lower()
        others = begin["other's"]()
        stack.callback(others.cancel)
        assert await first(others) is not None
        await resolved(channel, "one", RESOURCE)
        held[0].cancel()
        again = begin[kind]()
        stack.callback(again.cancel)
        while True:
            try:
                assert await first(again) is not None
                break
            except aio.AioRpcError:
                again = begin[kind]()
                stack.callback(again.cancel)


WATCH = "/authsvc.v1.SessionAdminService/WatchSessions"


async def test_watches_of_sessions_are_bounded_by_caller(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    async with (
        serving(tmp_path, clock, idp, max_streams_per_caller=4) as address,
        aio.insecure_channel(address) as channel,
    ):
        unread = UnreadAnswers(address, WATCH, TOKENS["operator"])
        await unread.ask(4)
        await unread.until(lambda: unread.begun == 4)
        admin: Any = pb_grpc.SessionAdminServiceStub(channel)
        refused = admin.WatchSessions(pb.WatchSessionsRequest(), metadata=proof("operator"))
        with pytest.raises(aio.AioRpcError) as caught:
            await refused.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # Others are served, and the operator's other calls.
        await resolved(channel, "one", RESOURCE)
        await admin.ListSessions(pb.ListSessionsRequest(), metadata=proof("operator"))
        unread.close()
        while True:
            again = admin.WatchSessions(pb.WatchSessionsRequest(), metadata=proof("operator"))
            if RESUME_TOKEN_KEY in await again.initial_metadata():
                break
        again.cancel()


async def test_watches_of_sessions_are_bounded_by_connection(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    async with serving(tmp_path, clock, idp, max_concurrent_streams_per_connection=3) as address:
        unread = UnreadAnswers(address, WATCH, TOKENS["operator"])
        await unread.ask(10)
        await unread.until(lambda: unread.begun == 3 and len(unread.ended) == 7)
        async with aio.insecure_channel(address) as channel:
            admin: Any = pb_grpc.SessionAdminServiceStub(channel)
            other = admin.WatchSessions(pb.WatchSessionsRequest(), metadata=proof("operator"))
            assert RESUME_TOKEN_KEY in await other.initial_metadata()
            other.cancel()
        unread.close()


def test_part_of_the_capacity_is_reserved_for_each_caller(clock: Clock) -> None:
    usages = Usages(CallerLimits(), clock, total=8, callers=2)
    for _ in range(6):
        usages.of("one").begin_call()
    with pytest.raises(AuthError) as caught:
        usages.of("one").begin_call()
    assert caught.value.reason is Reason.OVERLOADED
    for _ in range(2):
        usages.of("other").begin_call()
    with pytest.raises(AuthError):
        usages.of("other").begin_call()
    usages.of("one").end_call()
    usages.of("other").begin_call()
    for _ in range(5):
        usages.of("one").end_call()
    for _ in range(3):
        usages.of("other").end_call()
    for _ in range(6):
        usages.of("other").begin_call()
    with pytest.raises(AuthError):
        usages.of("other").begin_call()


def test_calls_that_cannot_be_divided_equally_are_shared() -> None:
    capacity = Capacity(5, 2)
    assert capacity.reserved == 1
    assert [capacity.take() for _ in range(4)] == [True, True, True, False]


async def test_a_flooding_caller_learns_nothing_of_tokens_of_others(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    async with (
        serving(tmp_path, clock, idp, rejected_tokens_burst=1) as address,
        aio.insecure_channel(address) as channel,
    ):
        stub = pb_grpc.AuthServiceStub(channel)

        async def ended(name: str, resource: str, token: str) -> grpc.StatusCode | None:
            request = pb.ResolveSessionRequest(resource=resource, token=token)
            try:
                await stub.ResolveSession(request, metadata=proof(name), timeout=BOUND_SECONDS)
            except aio.AioRpcError as error:
                return error.code()
            return None

        known = idp.token(aud=OTHER_RESOURCE)
        assert await ended("other", OTHER_RESOURCE, known) is None
        await ended("one", RESOURCE, idp.forged())
        assert await ended("one", RESOURCE, idp.forged()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        for token in (known, idp.token("bob", aud=OTHER_RESOURCE)):
            code = await ended("one", OTHER_RESOURCE, token)
            assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_call_that_times_out_as_it_is_evicted_ends_without_a_fault(clock: Clock) -> None:
    class Half:
        """The context of a call without a request."""

        code: grpc.StatusCode | None = None

        async def read(self) -> None:
            await asyncio.Event().wait()

        def set_code(self, code: grpc.StatusCode) -> None:
            self.code = code

        def set_details(self, details: str) -> None: ...

        def set_trailing_metadata(self, trailer: object) -> None: ...

    async def behavior(request: object, context: object) -> None: ...

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Check": grpc.unary_unary_rpc_method_handler(behavior)
    }
    bounded = BoundedHandlers(
        [grpc.method_handlers_generic_handler("open", handlers)],
        Admission(Callers([]), Usages(CallerLimits(), clock)),
        max_waiting=1,
        wait_seconds=0.05,
        open_methods=["/open/Check"],
    )
    details: Any = SimpleNamespace(method="/open/Check")
    assert bounded.service(details)  # the one that is left to itself
    handler: Any = bounded.service(details)
    contexts = [Half(), Half()]

    async def later() -> None:
        await asyncio.sleep(0.05)
        await handler.stream_stream(None, contexts[1])

    calls = [
        asyncio.create_task(later()),
        asyncio.create_task(handler.stream_stream(None, contexts[0])),
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The first call times out in the same pass in which the second one begins.
    time.sleep(0.1)  # noqa: ASYNC251 - the loop is to be late
    await asyncio.gather(*calls)
    assert {context.code for context in contexts} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
