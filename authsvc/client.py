"""What every MCP server imports: ``AuthClient``, a ``Resolver`` over gRPC.

Needs grpcio and protobuf alone. Fails closed: whatever goes wrong on the way is an ``AuthError``,
never an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc import aio

from authsvc import wire
from authsvc.errors import AuthError, Reason
from authsvc.resolution import Resolution
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc

ResponseT = TypeVar("ResponseT")

_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Come back soon after a restart of authsvc; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class AuthClient:
    """A connection to authsvc, to be shared by all requests of an event loop.

    Args:
        target: ``host:port`` or ``unix:/path`` of authsvc.
        deadline_seconds: how long one call may take, connecting included.
    """

    def __init__(self, target: str, *, deadline_seconds: float = 2.0) -> None:
        self._target = target
        self._deadline_seconds = deadline_seconds
        self._channel: aio.Channel | None = None
        self._stub: pb_grpc.AuthServiceAsyncStub

    async def __aenter__(self) -> Self:
        self._channel = aio.insecure_channel(self._target, options=_CHANNEL_OPTIONS)
        self._stub = pb_grpc.AuthServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def resolve(
        self, session_id: str, token: str, *, resource: str, create: bool = False
    ) -> Resolution:
        """See ``Resolver.resolve``."""
        request = pb.ResolveSessionRequest(
            session_id=session_id, token=token, resource=resource, create=create
        )
        call = self._stub.ResolveSession(request, timeout=self._deadline_seconds)
        return wire.resolution_of(await _answer(call))

    async def create(self, token: str, *, resource: str) -> Resolution:
        """See ``Resolver.create``."""
        request = pb.CreateSessionRequest(token=token, resource=resource)
        call = self._stub.CreateSession(request, timeout=self._deadline_seconds)
        return wire.resolution_of(await _answer(call))

    async def revoke(self, session_id: str) -> None:
        """See ``Resolver.revoke``."""
        request = pb.RevokeSessionRequest(session_id=session_id)
        await _answer(self._stub.RevokeSession(request, timeout=self._deadline_seconds))


async def _answer(call: Awaitable[ResponseT]) -> ResponseT:
    try:
        return await call
    except aio.AioRpcError as error:
        raise _auth_error(error) from None


def _auth_error(error: aio.AioRpcError) -> AuthError:
    """authsvc's own error where it sent one; anything else is not being able to tell."""
    details = error.trailing_metadata().get(wire.STATUS_DETAILS_KEY)
    if isinstance(details, bytes):
        try:
            known = wire.error_of(status_pb2.Status.FromString(details))
        except DecodeError:
            known = None
        if known is not None:
            return known
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return AuthError(Reason.OVERLOADED, error.code().name)
    return AuthError(Reason.STORE_UNAVAILABLE, f"authsvc: {error.code().name}")
