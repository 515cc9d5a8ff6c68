"""The connections of an ``AdminClient``: a channel to each address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias, TypeVar

from grpc import aio

from authsvc.client.failures import answered
from authsvc.client.tls import Certificates, ClientTls, Metadata, ServiceToken
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.channels import LASTING, open_channel
from authsvc.v1 import auth_pb2_grpc as pb_grpc

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

# The stubs know this class; the module itself does not.
Stub: TypeAlias = "pb_grpc.SessionAdminServiceAsyncStub"

Rpc: TypeAlias = Callable[[Stub], aio.UnaryUnaryMultiCallable[RequestT, ResponseT]]
"""From a stub to one of its RPCs."""


class AdminChannel:
    """A channel to one address.

    Args:
        name: the address, as it was given.
        channel: the channel, which this closes.
        metadata: authenticates the caller.
    """

    def __init__(self, name: str, channel: aio.Channel, metadata: Callable[[], Metadata]) -> None:
        self.name = name
        self.metadata = metadata
        self.stub: Stub = pb_grpc.SessionAdminServiceStub(channel)
        self.is_unresponsive = False
        self._channel = channel

    async def ask(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, timeout_seconds: float
    ) -> ResponseT:
        """One attempt.

        Raises:
            AttemptError: why it failed.
        """
        call: Awaitable[ResponseT] = rpc(self.stub)(
            request, metadata=self.metadata(), timeout=timeout_seconds
        )
        return await answered(call)

    def mark_unresponsive(self) -> None:
        """Have the next attempt, of whichever call, go to another address."""
        self.is_unresponsive = True

    async def close(self) -> None:
        """Close the connection; calls on it are cancelled."""
        await self._channel.close()


class AdminChannels:
    """A channel to each address of a client. One is used until an attempt fails, then the next.

    Args:
        addresses: as gRPC takes them.
        tls: None in the clear.

    Raises:
        OSError: a file of ``tls`` cannot be read, or does not hold what it should.
    """

    def __init__(self, addresses: Sequence[str], tls: ClientTls | None) -> None:
        self._addresses = addresses
        self._certificates = Certificates(tls)
        self._service_token = ServiceToken(tls.service_token_file if tls else None)
        self._channels: list[AdminChannel] = []
        self._outdated: list[AdminChannel] = []
        self._preferred = 0

    @property
    def closed(self) -> bool:
        """Whether there are no connections: before it is opened, and once it is closed."""
        return not self._channels

    def open(self) -> None:
        """Make a channel to each address."""
        self._channels = [self._channel(address) for address in self._addresses]

    async def close(self) -> None:
        """Close all channels, the outdated ones included."""
        channels = self._channels + self._outdated
        self._channels, self._outdated = [], []
        await asyncio.gather(*(channel.close() for channel in channels))

    def best(self, tried: Collection[AdminChannel]) -> AdminChannel | None:
        """The preferred channel; None if closed. Once an attempt there has failed, the next one is
        preferred: once, however many calls fail there."""
        if self.closed:
            return None
        if self._certificates.renew():
            # Watches continue on the old ones.
            self._outdated += self._channels
            self.open()
        preferred = self._channels[self._preferred % len(self._channels)]
        has_failed = any(channel.name == preferred.name for channel in tried)
        if has_failed or preferred.is_unresponsive:
            preferred.is_unresponsive = False
            self._preferred += 1
        return self._channels[self._preferred % len(self._channels)]

    async def next_connected(
        self, tried: Collection[AdminChannel], deadline: float
    ) -> AdminChannel:
        """
        Raises:
            AuthError: SERVICE_UNAVAILABLE: the client was closed.
        """
        raise AuthError(Reason.SERVICE_UNAVAILABLE, "authsvc: the client was closed")

    def has_other(self, tried: Collection[AdminChannel]) -> bool:
        """Whether there is more than one address."""
        return len(self._channels) > 1

    def _channel(self, address: str) -> AdminChannel:
        channel = open_channel(address, self._certificates.credentials, LASTING)
        return AdminChannel(address, channel, self._service_token.metadata)
