"""What every MCP server imports: ``AuthClient``, a ``Resolver`` over gRPC.

Needs grpcio and protobuf alone. Fails closed: whatever goes wrong on the way is an ``AuthError``,
never an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, TypeVar

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


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to know authsvc, and how to be known by it.

    Attributes:
        ca_file: PEM authorities of authsvc's certificate.
        certificate_file: PEM chain of this caller's certificate; None without one.
        key_file: its key.
        service_token_file: holds this caller's service token, read again when it changes; None
            without one.
    """

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    service_token_file: Path | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """
        Raises:
            OSError: a file cannot be read.
        """
        key, chain = self.key_file, self.certificate_file
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca_file.read_bytes(),
            private_key=key.read_bytes() if key else None,
            certificate_chain=chain.read_bytes() if chain else None,
        )


class AuthClient:
    """A connection to authsvc, to be shared by all requests of an event loop.

    Args:
        target: ``host:port`` or ``unix:/path`` of authsvc.
        deadline_seconds: how long one call may take, connecting included.
        tls: None for a socket of this machine.
    """

    def __init__(
        self, target: str, *, deadline_seconds: float = 2.0, tls: ClientTls | None = None
    ) -> None:
        self._target = target
        self._deadline_seconds = deadline_seconds
        self._tls = tls
        token_file = tls.service_token_file if tls else None
        self._service_token = _ServiceToken(token_file) if token_file else None
        self._channel: aio.Channel | None = None
        self._stub: pb_grpc.AuthServiceAsyncStub

    async def __aenter__(self) -> Self:
        if self._tls is None:
            self._channel = aio.insecure_channel(self._target, options=_CHANNEL_OPTIONS)
        else:
            credentials = self._tls.channel_credentials()
            self._channel = aio.secure_channel(self._target, credentials, options=_CHANNEL_OPTIONS)
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
        call = self._stub.ResolveSession(request, **self._how())
        return wire.resolution_of(await _answer(call))

    async def create(self, token: str, *, resource: str) -> Resolution:
        """See ``Resolver.create``."""
        request = pb.CreateSessionRequest(token=token, resource=resource)
        call = self._stub.CreateSession(request, **self._how())
        return wire.resolution_of(await _answer(call))

    async def revoke(self, session_id: str) -> None:
        """See ``Resolver.revoke``."""
        request = pb.RevokeSessionRequest(session_id=session_id)
        await _answer(self._stub.RevokeSession(request, **self._how()))

    def _how(self) -> _How:
        how: _How = {"timeout": self._deadline_seconds}
        if self._service_token is not None:
            how["metadata"] = (("authorization", f"Bearer {self._service_token.current()}"),)
        return how


class _How(TypedDict, total=False):
    """What goes with each call."""

    timeout: float
    metadata: tuple[tuple[str, str], ...]


class _ServiceToken:
    """A service token in a file, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._token = ""

    def current(self) -> str:
        """
        Raises:
            AuthError: CALLER_NOT_ALLOWED when there is no token to be had.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._token = self._path.read_text(encoding="ascii").strip()
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            if not self._token:
                raise AuthError(Reason.CALLER_NOT_ALLOWED, str(error)) from None
        return self._token


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
