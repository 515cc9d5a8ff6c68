"""What every MCP server imports: ``AuthClient``, a ``Resolver`` over gRPC.

Needs grpcio and protobuf alone. Fails closed: whatever goes wrong on the way is an ``AuthError``,
never an answer.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
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

log = logging.getLogger(__name__)

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
            OSError: a file cannot be read, or does not hold what it should.
        """
        key, chain = self.key_file, self.certificate_file
        # gRPC would find out at the first handshake, and tell nobody. An SSLError is an OSError.
        checked = ssl.create_default_context(cafile=self.ca_file)
        if chain is not None:
            checked.load_cert_chain(chain, key)
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca_file.read_bytes(),
            private_key=key.read_bytes() if key else None,
            certificate_chain=chain.read_bytes() if chain else None,
        )

    def files(self) -> tuple[Path, ...]:
        """The certificates and the key."""
        files = (self.ca_file, self.certificate_file, self.key_file)
        return tuple(path for path in files if path is not None)


class AuthClient:
    """A connection to authsvc, to be shared by all requests of an event loop.

    Args:
        target: ``host:port`` or ``unix:/path`` of authsvc.
        deadline_seconds: how long one call may take, connecting included.
        tls: None for a socket of this machine. Its files may change while the client runs: calls
            under way finish on the old connection, others take a new one.
    """

    def __init__(
        self, target: str, *, deadline_seconds: float = 2.0, tls: ClientTls | None = None
    ) -> None:
        self._target = target
        self._deadline_seconds = deadline_seconds
        self._tls = tls
        token_file = tls.service_token_file if tls else None
        self._service_token = _ServiceToken(token_file) if token_file else None
        self._connection: _Connection | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._connection = _Connection(self._target, self._tls)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            await self._connection.channel.close()
        await asyncio.gather(*self._closing)

    async def resolve(
        self, session_id: str, token: str, *, resource: str, create: bool = False
    ) -> Resolution:
        """See ``Resolver.resolve``."""
        request = pb.ResolveSessionRequest(
            session_id=session_id, token=token, resource=resource, create=create
        )
        call = self._stub().ResolveSession(request, **self._how())
        return wire.resolution_of(await _answer(call))

    async def create(self, token: str, *, resource: str) -> Resolution:
        """See ``Resolver.create``."""
        request = pb.CreateSessionRequest(token=token, resource=resource)
        call = self._stub().CreateSession(request, **self._how())
        return wire.resolution_of(await _answer(call))

    async def revoke(self, session_id: str) -> None:
        """See ``Resolver.revoke``."""
        request = pb.RevokeSessionRequest(session_id=session_id)
        await _answer(self._stub().RevokeSession(request, **self._how()))

    def _stub(self) -> pb_grpc.AuthServiceAsyncStub:
        """Over a connection with the certificates as they are now."""
        connection = self._connection
        if connection is None:
            raise RuntimeError("AuthClient is used within `async with`")
        renewed = connection.renewed()
        if renewed is not connection:
            self._connection = renewed
            closing = asyncio.create_task(connection.channel.close(self._deadline_seconds))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return renewed.stub

    def _how(self) -> _How:
        how: _How = {"timeout": self._deadline_seconds}
        if self._service_token is not None:
            how["metadata"] = (("authorization", f"Bearer {self._service_token.current()}"),)
        return how


class _How(TypedDict, total=False):
    """What goes with each call."""

    timeout: float
    metadata: tuple[tuple[str, str], ...]


class _Connection:
    """A channel, and the certificates that it was opened with.

    Raises:
        OSError: a file cannot be read, or does not hold what it should.
    """

    def __init__(self, target: str, tls: ClientTls | None) -> None:
        self._target = target
        self._tls = tls
        self._stamps = self._stamped()
        if tls is None:
            self.channel = aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            credentials = tls.channel_credentials()
            self.channel = aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
        self.stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(self.channel)

    def renewed(self) -> _Connection:
        """Itself, or another one where the certificates have changed and are fit for use."""
        try:
            stamps = self._stamped()
            if stamps == self._stamps:
                return self
            # Whatever comes of it, these are not tried again before they change once more.
            self._stamps = stamps
            renewed = _Connection(self._target, self._tls)
        except OSError as error:
            log.error("certificates cannot be reloaded: %s", error)
            return self
        log.info("certificates reloaded")
        return renewed

    def _stamped(self) -> tuple[tuple[int, int], ...]:
        return tuple(_stamp(path) for path in self._tls.files()) if self._tls else ()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino


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
            stamp = _stamp(self._path)
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
