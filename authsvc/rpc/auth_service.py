"""The gRPC services: from message to resolver and back. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer
from grpc_reflection.v1alpha._async import ReflectionServicer

from authsvc.access.callers import Caller
from authsvc.domain.errors import AuthError, Reason
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admission import Context, Edge, Stay, guarded, refuse
from authsvc.rpc.resolve_stream import ResolveStream
from authsvc.rpc.waiting import GenericHandlers
from authsvc.telemetry.counts import Resolves
from authsvc.telemetry.metrics import Metrics
from authsvc.telemetry.spans import Tracing
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["AuthService"].full_name


class AuthServicer:
    """``authsvc.v1.AuthService`` over a resolver.

    A request that has been answered is known by its bytes, and its answer is bytes, too, encoded
    once for as long as it stays the same: hence no subclass of the generated servicer, whose
    serialisers would parse and encode each.

    Args:
        resolver: decides.
        edge: who may pass.
        stopping: set when the server stops: streams end.
        metrics: where calls are counted.
        tracing: makes spans of them.
    """

    def __init__(
        self,
        resolver: SessionResolver,
        edge: Edge,
        stopping: asyncio.Event,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._resolver = resolver
        self._edge = edge
        self._stopping = stopping
        self._unary = Answering(resolver, edge, metrics.unary, tracing)
        self._stream = Answering(resolver, edge, metrics.stream, tracing)
        self._creates = metrics.create
        self._tracing = tracing

    def add_to(self, server: aio.Server | GenericHandlers) -> None:
        """Serve from ``server``, which has not been started."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ResolveSession": grpc.unary_unary_rpc_method_handler(self.resolve_session),
            "ResolveSessionStream": grpc.stream_stream_rpc_method_handler(
                self.resolve_session_stream,
                request_deserializer=RequestFrames.FromString,
            ),
            "CreateSession": grpc.unary_unary_rpc_method_handler(
                self.create_session,
                request_deserializer=pb.CreateSessionRequest.FromString,
                response_serializer=pb.CreateSessionResponse.SerializeToString,
            ),
            "RevokeSession": grpc.unary_unary_rpc_method_handler(
                self.revoke_session,
                request_deserializer=pb.RevokeSessionRequest.FromString,
                response_serializer=Empty.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),)
        )

    async def resolve_session(self, encoded: bytes, context: Context) -> bytes:
        """See ``auth.proto``; request and answer are encoded."""
        try:
            caller = self._edge.identify(context)
            request_digest = wire.request_digest(encoded)
            if (answer := self._unary.recall(request_digest, caller)) is not None:
                return answer
            request = wire.request_of(encoded)
            if (rejection := self._unary.rejection(request, caller)) is not None:
                self._unary.refused(rejection)
                refuse(rejection, context)
                return b""
            with self._edge.admitted_for(request.resource, context, caller):
                return await self._unary.resolve(
                    request, request_digest, caller, traceparent_of(context)
                )
        except Exception as error:  # noqa: BLE001 - whatever breaks, nobody gets in
            self._unary.refused(error)
            refuse(error, context)
            return b""

    async def resolve_session_stream(self, request_iterator: object, context: Context) -> None:
        """See ``auth.proto``; the answers are encoded."""
        async with self._edge.staying(context) as stay:
            stream = ResolveStream(context, self._edge, stay, self._stream)
            await guarded(stream.serve(self._stopping), context)

    async def create_session(
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """See ``auth.proto``."""
        try:
            caller = self._edge.identify(context)
            if (rejection := self._unary.rejection(request, caller)) is not None:
                raise rejection
            return await self._create(request, caller, context)
        except Exception as error:  # noqa: BLE001 - whatever breaks, nobody gets in
            self._creates.refused(error)
            refuse(error, context)
            return pb.CreateSessionResponse()

    async def revoke_session(self, request: pb.RevokeSessionRequest, context: Context) -> Empty:
        """See ``auth.proto``."""
        return await guarded(self._revoke(request, context), context)

    async def _create(
        self, request: pb.CreateSessionRequest, caller: Caller, context: Context
    ) -> pb.CreateSessionResponse:
        with (
            self._edge.admitted_for(request.resource, context, caller),
            self._creates.deciding(),
            self._tracing.served("CreateSession", traceparent_of(context)),
        ):
            resolution = await self._resolver.create(
                request.token, resource=request.resource, caller=caller.name
            )
        self._creates.answered(resolution)
        answer = wire.response_message(resolution)
        return pb.CreateSessionResponse(
            session=answer.session,
            principal=answer.principal if answer.HasField("principal") else None,
            credentials=answer.credentials if answer.HasField("credentials") else None,
            consistency_token=answer.consistency_token,
        )

    async def _revoke(self, request: pb.RevokeSessionRequest, context: Context) -> Empty:
        with self._edge.admitted(context, Caller.authorize_service) as caller:
            written = await self._resolver.revoke(
                request.session_id, resources=caller.resources, caller=caller.name
            )
        if written:
            context.set_trailing_metadata(((wire.CONSISTENCY_TOKEN_KEY, written),))
        return Empty()


class Answering:
    """``streaming.Answers`` over a resolver, for requests that come one way.

    Args:
        resolver: decides.
        edge: rations what is answered from memory.
        resolves: where they are counted.
        tracing: makes spans of those that are decided.
    """

    def __init__(
        self, resolver: SessionResolver, edge: Edge, resolves: Resolves, tracing: Tracing
    ) -> None:
        self._tracing = tracing
        self._resolver = resolver
        self._edge = edge
        self._resolves = resolves

    def recall(self, request_digest: bytes, caller: Caller) -> bytes | None:
        """See ``streaming.Answers``."""
        settled = self._resolver.recall(request_digest)
        if settled is None or settled.resource not in caller.resources:
            return None
        self._edge.counted(caller)
        self._resolves.cached += 1
        if not settled.encoded:
            settled.encoded = wire.response_message(settled.resolution).SerializeToString()
        return settled.encoded

    def rejection(
        self, request: pb.ResolveSessionRequest | pb.CreateSessionRequest, caller: Caller
    ) -> AuthError | None:
        """See ``streaming.Answers``."""
        if request.resource not in caller.resources:
            # What is known of a token or a session there is nothing for this caller.
            return None
        session_id = seen = ""
        if isinstance(request, pb.ResolveSessionRequest):
            session_id, seen = request.session_id, request.consistency_token
        wait = self._resolver.seconds_until_check(
            session_id,
            request.token,
            resource=request.resource,
            caller=caller.name,
            seen=seen,
        )
        if wait == 0.0:
            return None
        self._edge.counted(caller)
        return AuthError(Reason.OVERLOADED, "too many refused tokens", retry_after_seconds=wait)

    async def resolve(
        self,
        request: pb.ResolveSessionRequest,
        request_digest: bytes,
        caller: Caller,
        traceparent: str,
    ) -> bytes:
        """See ``streaming.Answers``."""
        with self._resolves.deciding(), self._tracing.served("ResolveSession", traceparent):
            resolution = await self._resolver.resolve(
                request.session_id,
                request.token,
                resource=request.resource,
                create=request.create,
                caller=caller.name,
                seen=request.consistency_token,
                request_digest=request_digest,
            )
        self._resolves.answered(resolution)
        return wire.response_message(resolution).SerializeToString()

    def refused(self, error: Exception) -> None:
        """See ``streaming.Answers``."""
        self._resolves.refused(error)


def traceparent_of(context: Context) -> str:
    """The trace context that a call presents; empty without one."""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            return str(value)
    return ""


class GuardedHealthServicer(HealthServicer):
    """``grpc.health.v1.Health``: whoever asks is told; only a known caller may stay and watch.

    A watch lasts, and counts against what the server does at once. It waits for its own client
    alone: gRPC's servicer holds a lock while it writes, so that one client that does not read would
    hold up the other watches, news of health, and the stop of the server.

    Args:
        edge: who may pass.
        stopping: set when the server stops: no watch holds it up.
    """

    def __init__(self, edge: Edge, stopping: asyncio.Event) -> None:
        self._edge = edge
        self._stopping = stopping
        self._statuses: dict[str, int] = {"": HealthCheckResponse.SERVING}
        self._changed = asyncio.Event()
        self._is_leaving = False

    def report(self, service: str, *, serving: bool) -> None:
        """Say whether a service is served, unless the server is about to stop.

        Args:
            service: its full name; empty for the server as a whole.
            serving: whether it is.
        """
        if not self._is_leaving:
            self._set(service, _SERVING[serving])

    def leave(self) -> None:
        """Say that nothing is served any more, whatever is reported later."""
        self._is_leaving = True
        for service in self._statuses:
            self._set(service, _SERVING[False])

    async def Check(  # noqa: N802
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """See ``grpc.health.v1.Health.Check``."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return HealthCheckResponse(status=status)

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """See ``grpc.health.v1.Health.Watch``."""
        async with self._edge.staying(context) as stay:
            written = None
            while True:
                changed, is_stopping = self._changed, self._stopping.is_set()
                status = self._statuses.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
                if status != written:
                    await stay.write(HealthCheckResponse(status=status))
                    written = status
                elif is_stopping:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")
                else:
                    await _first_set((changed, self._stopping), stay)

    def _set(self, service: str, status: int) -> None:
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()


async def _first_set(events: Iterable[asyncio.Event], stay: Stay) -> None:
    """Wait for one of some events, for as long as the caller is known."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await stay.first_done(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_SERVING = {True: HealthCheckResponse.SERVING, False: HealthCheckResponse.NOT_SERVING}


class GuardedReflectionServicer(ReflectionServicer):
    """``grpc.reflection.v1alpha.ServerReflection``, for known callers."""

    def __init__(self, edge: Edge, service_names: Iterable[str]) -> None:
        super().__init__(service_names)
        self._edge = edge

    async def ServerReflectionInfo(  # type: ignore[override] # noqa: N802 - stubs: no generator
        self, request_iterator: AsyncIterable[Any], context: Context
    ) -> AsyncIterator[Any]:
        """See ``grpc.reflection.v1alpha.ServerReflection``."""
        async with self._edge.staying(context) as stay:
            answers: Any = super().ServerReflectionInfo(request_iterator, context)
            async for answer in answers:
                stay.identify()
                yield answer
