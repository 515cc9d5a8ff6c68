"""Replicas for a client to call: real servers, whose answers a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from authsvc.client import AuthClient
from authsvc.client.replica import Replica
from authsvc.domain.errors import AuthError
from authsvc.rpc.errors import encoded_status_of, end_with_status, ends_with_status
from authsvc.rpc.metadata import Context
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire import auth as wire
from tests.support.bounds import TIMEOUT_SECONDS

RESOURCE = "https://mcp.example/mcp"
BOUND_SECONDS = TIMEOUT_SECONDS
"""On each wait of a test; never reached by one that passes."""

GRACE_SECONDS = 30.0

Request = pb.ResolveSessionRequest | pb.CreateSessionRequest | pb.RevokeSessionRequest


class Answers(aio.ServerInterceptor):
    """Blocks all calls while the replica is frozen, health checks included."""

    def __init__(self, thawed: asyncio.Event) -> None:
        self._thawed = thawed

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wait, then go on."""
        await self._thawed.wait()
        return await continuation(handler_call_details)


@dataclass
class Asked:
    """One call that has arrived."""

    request: Request
    seconds_left: float
    traceparent: str = ""


@dataclass
class FakeReplica(pb_grpc.AuthServiceServicer):
    """One replica.

    Attributes:
        address: where it listens.
        asked: the calls that have arrived, in order.
        arrived: set when a call has arrived.
        gone: set when a call was cancelled by its caller.
        go_on: calls wait until it is set.
        error: what all calls fail with; None to answer them.
        written: the consistency token of each answer.
        streams: whether it has ``ResolveSessionStream``.
        ends_streams: whether it ends each after one batch, unanswered.
        end: the error that it ends them with; None for OK.
        opened: the metadata of each stream.
        batches: the number of entries in each batch.
    """

    address: str = ""
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    written: str = ""
    streams: bool = True
    ends_streams: bool = False
    end: AuthError | None = None
    opened: list[dict[str, str | bytes]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _health: HealthServicer | None = None
    _server: aio.Server | None = None
    _thawed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go_on.set()
        self._thawed.set()

    async def start(self) -> None:
        """Listen, where it did before if it has been stopped."""
        host, _, port = (self.address or "127.0.0.1:0").rpartition(":")
        self._server = aio.server(interceptors=(Answers(self._thawed),))
        pb_grpc.add_AuthServiceServicer_to_server(self, self._server)
        self._health = HealthServicer()
        add_HealthServicer_to_server(self._health, self._server)
        self.address = f"{host}:{self._server.add_insecure_port(f'{host}:{port}')}"
        await self.say(serving=True)
        await self._server.start()

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Stop; gracefully with a grace."""
        if self._server is not None and self._health is not None:
            if grace_seconds:
                await self._health.enter_graceful_shutdown()
            await self._server.stop(grace_seconds)

    async def say(self, *, serving: bool) -> None:
        """Report its health to those that watch it."""
        status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        if self._health is not None:
            await self._health.set("", status)

    def freeze(self) -> None:
        """Accept connections and calls, and answer nothing."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on where it was frozen."""
        self._thawed.set()

    @ends_with_status
    async def ResolveSession(  # noqa: N802 - gRPC's name
        self, request: pb.ResolveSessionRequest, context: Context
    ) -> pb.ResolveSessionResponse:
        """Answer."""
        await self._answer(request, context)
        return pb.ResolveSessionResponse(
            session=pb.Session(id=request.session_id), consistency_token=self.written
        )

    @ends_with_status
    async def CreateSession(  # noqa: N802 - gRPC's name
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """Answer."""
        await self._answer(request, context)
        return pb.CreateSessionResponse(
            session=pb.Session(id="created"), consistency_token=self.written
        )

    @ends_with_status
    async def RevokeSession(  # noqa: N802 - gRPC's name
        self, request: pb.RevokeSessionRequest, context: Context
    ) -> Empty:
        """Answer."""
        await self._answer(request, context)
        if self.written:
            context.set_trailing_metadata(((wire.CONSISTENCY_TOKEN_KEY, self.written),))
        return Empty()

    # grpc.aio takes a coroutine that writes as well as an iterator; the stubs know the latter.
    async def ResolveSessionStream(  # type: ignore[override] # noqa: N802 - gRPC's name
        self, request_iterator: object, context: Context
    ) -> None:
        """Answer each entry by itself."""
        if not self.streams:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED)
        self.opened.append(dict(context.invocation_metadata() or ()))
        tasks: dict[int, asyncio.Task[None]] = {}
        try:
            while (batch := await context.read()) is not aio.EOF:
                await self._thawed.wait()
                self.batches.append(len(batch.entries))
                for request_id in batch.cancelled_request_ids:
                    if request_id in tasks:
                        tasks[request_id].cancel()
                for entry in batch.entries:
                    work = self._answer_entry(entry, context)
                    tasks[entry.request_id] = asyncio.create_task(work)
                if self.ends_streams:
                    await self.arrived.wait()
                    if self.end is not None:
                        end_with_status(self.end, context)
                    return
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _answer_entry(
        self, entry: pb.ResolveSessionStreamRequest.Entry, context: Context
    ) -> None:
        answer = pb.ResolveSessionStreamResponse.Entry(request_id=entry.request_id)
        self._arrived(Asked(entry.request, 0.0, entry.traceparent))
        await self._held()
        if self.error is not None:
            answer.error.ParseFromString(encoded_status_of(self.error))
        else:
            answer.response.session.id = entry.request.session_id
            answer.response.consistency_token = self.written
        async with self._writing:
            await context.write(pb.ResolveSessionStreamResponse(entries=[answer]))

    async def _answer(self, request: Request, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        traceparent = str(metadata.get("traceparent", ""))
        self._arrived(Asked(request, context.time_remaining() or 0.0, traceparent))
        await self._held()
        if self.error is not None:
            raise self.error

    def _arrived(self, asked: Asked) -> None:
        self.asked.append(asked)
        self.arrived.set()

    async def _held(self) -> None:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise


@asynccontextmanager
async def fleet(size: int) -> AsyncIterator[list[FakeReplica]]:
    """So many replicas."""
    replicas = [FakeReplica() for _ in range(size)]
    try:
        for replica in replicas:
            await replica.start()
        yield replicas
    finally:
        for replica in replicas:
            replica.go_on.set()
            replica.thaw()
            await replica.stop(GRACE_SECONDS)


def client_of(*replicas: FakeReplica, **options: Any) -> AuthClient:  # noqa: ANN401 - as AuthClient has them
    """A client with a deadline that is long enough for what the replicas do."""
    given = {"deadline_seconds": TIMEOUT_SECONDS, **options}
    return AuthClient(addresses(list(replicas)), **given)


def hasten(client: AuthClient, deadline_seconds: float) -> None:
    """Give each later call so long."""
    client._calls._deadline_seconds = deadline_seconds


def addresses(replicas: list[FakeReplica]) -> list[str]:
    """Where they are."""
    return [replica.address for replica in replicas]


async def connected(client: AuthClient, count: int) -> None:
    """Wait until a client has so many connections."""
    replicas = client._replicas
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            if sum(one.try_connect() for one in replicas._by_endpoint.values()) >= count:
                return
            await asyncio.sleep(0)


async def streaming(client: AuthClient, count: int = 1) -> None:
    """Wait until the resolves at so many replicas have a stream, or a connection for one."""
    replicas = client._replicas
    async with asyncio.timeout(BOUND_SECONDS):
        while sum(map(has_stream, replicas._by_endpoint.values())) < count:  # noqa: ASYNC110 - the replica is in this process
            await asyncio.sleep(0)


def has_stream(replica: Replica) -> bool:
    """Whether a resolve would go on a stream."""
    streams = replica._streams
    if streams is None:
        return False
    connection, stream = streams._connection, streams._stream
    return bool((connection and connection.is_usable) or (stream and stream.usable))


async def resolved(client: AuthClient, session_id: str = "s") -> None:
    """One call that is answered."""
    await client.resolve(session_id, "", resource=RESOURCE)


async def until(condition: Callable[[], bool], client: AuthClient) -> None:
    """Call until something has come of it, each call answered."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():
            await resolved(client)
