"""The gRPC services: from message to resolver and back. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractContextManager
from typing import Any, Never

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha._async import ReflectionServicer

from authsvc import wire
from authsvc.callers import Caller
from authsvc.edge import Context, Edge, guarded
from authsvc.resolver import SessionResolver
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc


class AuthServicer(pb_grpc.AuthServiceServicer):
    """``authsvc.v1.AuthService`` over a resolver."""

    def __init__(self, resolver: SessionResolver, edge: Edge) -> None:
        self._resolver = resolver
        self._edge = edge

    async def ResolveSession(  # noqa: N802 - gRPC's name
        self, request: pb.ResolveSessionRequest, context: Context
    ) -> pb.ResolveSessionResponse:
        """See ``auth.proto``."""
        return await guarded(self._resolve(request, context), context)

    async def CreateSession(  # noqa: N802 - gRPC's name
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """See ``auth.proto``."""
        return await guarded(self._create(request, context), context)

    async def RevokeSession(  # noqa: N802 - gRPC's name
        self, request: pb.RevokeSessionRequest, context: Context
    ) -> Empty:
        """See ``auth.proto``."""
        return await guarded(self._revoke(request, context), context)

    # grpc.aio takes a coroutine that writes as well as an iterator; the stubs know the latter.
    async def ResolveSessionStream(  # type: ignore[override] # noqa: N802 - gRPC's name
        self, request_iterator: object, context: Context
    ) -> Never:
        """Not served yet."""
        await _unimplemented("AuthService.ResolveSessionStream", context)

    async def _resolve(
        self, request: pb.ResolveSessionRequest, context: Context
    ) -> pb.ResolveSessionResponse:
        with self._for_resource(context, request.resource) as caller:
            resolution = await self._resolver.resolve(
                request.session_id,
                request.token,
                resource=request.resource,
                create=request.create,
                caller=caller.name,
                seen=request.consistency_token,
            )
        return wire.response_message(resolution)

    async def _create(
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        with self._for_resource(context, request.resource) as caller:
            resolution = await self._resolver.create(
                request.token, resource=request.resource, caller=caller.name
            )
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

    def _for_resource(self, context: Context, resource: str) -> AbstractContextManager[Caller]:
        return self._edge.admitted(
            context, lambda caller: caller.authorize(resource), resource=resource
        )


class GuardedHealthServicer(HealthServicer):
    """``grpc.health.v1.Health``: whoever asks is told; only a known caller may stay and watch.

    A watch lasts, and counts against what the server does at once.

    Args:
        edge: who may pass.
        stopping: set when the server stops: no watch holds it up.
    """

    def __init__(self, edge: Edge, stopping: asyncio.Event) -> None:
        super().__init__()
        self._edge = edge
        self._stopping = stopping

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """See ``grpc.health.v1.Health.Watch``."""
        await self._edge.admit(context)
        watching = asyncio.ensure_future(super().Watch(request, context))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")
            await watching
        finally:
            watching.cancel()
            stopping.cancel()
            await asyncio.gather(watching, stopping, return_exceptions=True)


class GuardedReflectionServicer(ReflectionServicer):
    """``grpc.reflection.v1alpha.ServerReflection``, for known callers."""

    def __init__(self, edge: Edge, service_names: Iterable[str]) -> None:
        super().__init__(service_names)
        self._edge = edge

    async def ServerReflectionInfo(  # type: ignore[override] # noqa: N802 - stubs: no generator
        self, request_iterator: AsyncIterable[Any], context: Context
    ) -> AsyncIterator[Any]:
        """See ``grpc.reflection.v1alpha.ServerReflection``."""
        await self._edge.admit(context)
        answers: Any = super().ServerReflectionInfo(request_iterator, context)
        async for answer in answers:
            yield answer


async def _unimplemented(method: str, context: Context) -> Never:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"authsvc.v1.{method} is not served by this version"
    )
