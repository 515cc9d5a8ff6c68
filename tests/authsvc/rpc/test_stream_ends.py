"""A stream never ends beside a write, which gRPC rejects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from authsvc.access.callers import LOCAL_CALLER, Caller, Callers
from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.admin.watches import Watch
from authsvc.audit.admin_actions import AdminActions
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, SessionEvent
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.rpc import admitted_stream
from authsvc.rpc.admin_service import SessionAdminServicer
from authsvc.rpc.admission import Admission
from authsvc.rpc.errors import ends_with_status
from authsvc.rpc.health import HealthServicer
from authsvc.rpc.metadata import Context
from authsvc.rpc.resolve_stream import ResolveStream
from authsvc.stores import LoggedEvent
from authsvc.v1 import auth_pb2 as pb
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

LOCAL = Caller(LOCAL_CALLER, frozenset({RESOURCE}), admin=True)


class SlowContext:
    """The context of a call whose client reads slowly.

    As with gRPC, a write goes on whose task is cancelled, and no end is taken beside it.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.read_by_client = asyncio.Event()
        self.written: list[Any] = []
        self.ended_beside_a_write: bool | None = None
        self.code: grpc.StatusCode | None = None
        self._requests = [_batch()]

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return "a client"

    async def send_initial_metadata(self, metadata: object) -> None:
        """The client has room for that."""

    async def read(self) -> RequestFrames:
        if not self._requests:
            await asyncio.Event().wait()
        return self._requests.pop()

    async def write(self, message: object) -> None:
        self.begun.set()
        await self.read_by_client.wait()
        self.written.append(message)
        self.begun.clear()

    def set_code(self, code: grpc.StatusCode) -> None:
        """The handler only returns after this: the call ends with the code."""
        self.ended_beside_a_write = self.begun.is_set()
        self.code = code

    def set_details(self, details: str) -> None: ...

    def set_trailing_metadata(self, metadata: object) -> None: ...


class CallerThatGoes(Admission):
    """Admission that knows the caller until ``is_gone`` is set."""

    is_gone = False

    def identify(self, context: Context) -> Caller:
        if self.is_gone:
            raise AuthError(Reason.CALLER_NOT_ALLOWED, "gone")
        return super().identify(context)


def _batch() -> RequestFrames:
    entry = pb.ResolveSessionStreamRequest.Entry(
        request_id=1, request=pb.ResolveSessionRequest(resource=RESOURCE)
    )
    batch = pb.ResolveSessionStreamRequest(entries=[entry, entry])
    batch.entries[1].request_id = 2
    return RequestFrames.FromString(batch.SerializeToString())


class FirstAtOnce:
    """Has the first response in the cache, and resolves the second request in its task."""

    def __init__(self) -> None:
        self._answers = [b"first"]

    def cached(self, request_digest: bytes, caller: Caller) -> bytes | None:
        return self._answers.pop() if self._answers else None

    def rejection(self, request: object, caller: Caller) -> None:
        return None

    async def resolve(self, *_: object) -> bytes:
        return b"second"

    def failed(self, error: Exception) -> None:
        raise AssertionError("nothing fails") from error


class EventsWithoutEnd:
    """Stands in for ``SessionAdmin``: there is always another event."""

    def __init__(self) -> None:
        self.actions = AdminActions()

    @property
    def watches(self) -> EventsWithoutEnd:
        return self

    @asynccontextmanager
    async def watching(self, *_: object, **__: object) -> AsyncIterator[Watch]:
        async def events() -> AsyncIterator[LoggedEvent]:
            while True:
                yield LoggedEvent("here", SessionEvent(EventType.TOKENS_REVOKED, 0.0))

        yield Watch("start", events())


def health_watch(
    admission: Admission, stopping: asyncio.Event, context: Context
) -> Awaitable[None]:
    return HealthServicer(admission, stopping).Watch(HealthCheckRequest(), context)


def session_watch(
    admission: Admission, stopping: asyncio.Event, context: Context
) -> Awaitable[None]:
    admin: Any = EventsWithoutEnd()
    return SessionAdminServicer(admin, admission).WatchSessions(pb.WatchSessionsRequest(), context)


@ends_with_status
async def resolve_stream(admission: Admission, stopping: asyncio.Event, context: Context) -> None:
    with admission.stream(context) as admitted:
        await ResolveStream(context, admission, admitted, FirstAtOnce()).serve(stopping)


@pytest.fixture
def usages(clock: Clock) -> Usages:
    """One stream at once."""
    return Usages(CallerLimits(max_streams_per_caller=1), clock)


@pytest.fixture
def admission(usages: Usages, monkeypatch: pytest.MonkeyPatch) -> CallerThatGoes:
    monkeypatch.setattr(admitted_stream, "IDENTIFY_SECONDS", 0.0)
    return CallerThatGoes(Callers([], local=LOCAL), usages)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("call", [health_watch, session_watch, resolve_stream])
async def test_a_stream_whose_caller_is_no_longer_known_ends_after_the_write_under_way(
    admission: CallerThatGoes,
    usages: Usages,
    call: Callable[[Admission, asyncio.Event, Context], Awaitable[None]],
) -> None:
    context = SlowContext()
    usage = usages.of(LOCAL.name)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        serving = asyncio.ensure_future(call(admission, asyncio.Event(), cast("Context", context)))
        await context.begun.wait()
        admission.is_gone = True
        await _passes()
        usage.begin_stream()
        context.read_by_client.set()
        await serving
    assert context.code is grpc.StatusCode.PERMISSION_DENIED
    assert context.ended_beside_a_write is False
    assert len(context.written) == 1, "nothing is written for a caller that is not known"


async def test_a_watch_of_health_has_the_newest_status_before_a_stop_ends_it(
    admission: CallerThatGoes,
) -> None:
    stopping = asyncio.Event()
    context: Any = SlowContext()
    health = HealthServicer(admission, stopping)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        watch = asyncio.ensure_future(health.Watch(HealthCheckRequest(), context))
        await context.begun.wait()
        health.drain()
        stopping.set()
        await _passes()
        context.read_by_client.set()
        await watch
    assert context.code is grpc.StatusCode.UNAVAILABLE
    assert context.ended_beside_a_write is False
    statuses = [message.status for message in context.written]
    assert statuses == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]


async def _passes() -> None:
    """Passes of the event loop, enough to end the call."""
    for _ in range(20):
        await asyncio.sleep(0)
