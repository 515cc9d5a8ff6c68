"""``authsvc.v1.AuthService``: translates between messages and the resolver. Decides nothing."""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.empty_pb2 import Empty

from authsvc.access.callers import Caller
from authsvc.internal.v1.frames_pb2 import RequestFrames
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admission import Admission
from authsvc.rpc.errors import end_with_status, ends_with_status
from authsvc.rpc.metadata import Context, traceparent_of
from authsvc.rpc.registration import Coders, service_handlers
from authsvc.rpc.resolve_stream import ResolveStream
from authsvc.rpc.resolving import RpcResolver
from authsvc.telemetry.metrics import Metrics
from authsvc.telemetry.spans import Tracing
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire
from authsvc.wire import credentials as credentials_wire
from authsvc.wire import frames

SERVICE = pb.DESCRIPTOR.services_by_name["AuthService"]

_CODERS = {
    "ResolveSession": Coders(None, None),
    "ResolveSessionStream": Coders(RequestFrames.FromString, None),
}
"""A request whose response is cached is found by the digest of its bytes, and the response is
bytes, too, encoded once: neither is parsed nor encoded again."""


class AuthServicer:
    """``AuthService`` over a resolver.

    Args:
        resolver: decides.
        admission: admits calls.
        stopping: set when the server stops: streams end.
        metrics: where calls are counted.
        tracing: makes spans of them.
    """

    def __init__(
        self,
        resolver: SessionResolver,
        admission: Admission,
        stopping: asyncio.Event,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._resolver = resolver
        self._admission = admission
        self._stopping = stopping
        self._unary = RpcResolver(resolver, admission, metrics.unary, tracing)
        self._stream = RpcResolver(resolver, admission, metrics.stream, tracing)
        self._creates = metrics.create
        self._tracing = tracing

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return service_handlers(SERVICE, self, coders=_CODERS)

    async def ResolveSession(  # noqa: N802 - gRPC's name
        self, encoded: bytes, context: Context
    ) -> bytes:
        """See ``auth.proto``; request and response are encoded. The hot path."""
        try:
            caller = self._admission.identify(context)
            request_digest = frames.request_digest(encoded)
            if (cached := self._unary.cached(request_digest, caller)) is not None:
                return cached
            request = frames.request_of(encoded)
            request.resource = caller.spelled(request.resource)
            if (rejection := self._unary.rejection(request, caller)) is not None:
                raise rejection
            with self._admission.call_for(request.resource, context, caller):
                return await self._unary.resolve(
                    request, request_digest, caller, traceparent_of(context)
                )
        except Exception as error:  # noqa: BLE001 - an unexpected error denies access, too
            self._unary.failed(error)
            end_with_status(error, context)
            return b""

    @ends_with_status
    async def ResolveSessionStream(  # noqa: N802 - gRPC's name
        self, request_iterator: object, context: Context
    ) -> None:
        """See ``auth.proto``; the responses are encoded."""
        with self._admission.stream(context) as admitted:
            stream = ResolveStream(context, self._admission, admitted, self._stream)
            await stream.serve(self._stopping)

    @ends_with_status
    async def CreateSession(  # noqa: N802 - gRPC's name
        self, request: pb.CreateSessionRequest, context: Context
    ) -> pb.CreateSessionResponse:
        """See ``auth.proto``."""
        try:
            caller = self._admission.identify(context)
            request.resource = caller.spelled(request.resource)
            if (rejection := self._unary.rejection(request, caller)) is not None:
                raise rejection
            return await self._create(request, caller, context)
        except Exception as error:
            self._creates.failed(error)
            raise

    @ends_with_status
    async def RevokeSession(  # noqa: N802 - gRPC's name
        self, request: pb.RevokeSessionRequest, context: Context
    ) -> Empty:
        """See ``auth.proto``."""
        with self._admission.call(context, Caller.authorize_service) as caller:
            consistency_token = await self._resolver.revoke(
                request.session_id, resources=caller.resources, caller=caller.name
            )
        if consistency_token:
            context.set_trailing_metadata(((wire.CONSISTENCY_TOKEN_KEY, consistency_token),))
        return Empty()

    async def _create(
        self, request: pb.CreateSessionRequest, caller: Caller, context: Context
    ) -> pb.CreateSessionResponse:
        with (
            self._admission.call_for(request.resource, context, caller),
            self._creates.deciding(),
            self._tracing.server_span("CreateSession", traceparent_of(context)),
        ):
            resolution = await self._resolver.create(
                request.token,
                resource=request.resource,
                caller=caller.name,
                counts=wire.counts_of(request),
                credentials=credentials_wire.selection_of(request),
            )
        self._creates.answered(resolution)
        return wire.created_message(resolution)
