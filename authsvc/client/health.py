"""Asks a replica for its health (``grpc.health.v1.Health``). Its two messages are small enough to
write by hand; their package would be another dependency."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import grpc
from grpc import aio

from authsvc.client.failures import why_never_sent
from authsvc.client.tls import ClientTls, Metadata
from authsvc.net.channels import open_channel

_ALL = b""
"""``HealthCheckRequest{service: ""}``: the server as a whole."""

_Call = aio.UnaryUnaryMultiCallable[bytes, bytes]
_Stream = aio.UnaryStreamMultiCallable[bytes, bytes]

_SERVING = b"\x08\x01"
"""``HealthCheckResponse{status: SERVING}``: field 1, a varint, 1."""

_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Health:
    """What a health check found.

    Attributes:
        serving: whether the server reports that it serves.
        answered: whether it answered the question at all.
        text: its answer, or why there is none: ``SERVING``, ``NOT_SERVING`` or the name of a gRPC
            status code.
        cause: why there is no connection, in words; empty otherwise.
    """

    serving: bool
    answered: bool
    text: str
    cause: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.cause}" if self.cause else self.text


async def probe(
    address: str, *, tls: ClientTls | None = None, name: str = "", timeout_seconds: float
) -> Health:
    """Check the health of a server once, on a connection of its own.

    Args:
        address: ``host:port`` or ``unix:/path``.
        tls: None in the clear.
        name: that of its certificate, if not the address's.
        timeout_seconds: connecting included.

    Raises:
        OSError: a file of ``tls`` cannot be read, or does not hold what it should.
    """
    options = (("grpc.ssl_target_name_override", name),) if name else ()
    credentials = tls.channel_credentials() if tls else None
    async with open_channel(address, credentials, options) as channel:
        try:
            serving = await check(channel, timeout_seconds)
        except aio.AioRpcError as error:
            name, cause = str(error.code().name), why_never_sent(error)
            return Health(serving=False, answered=False, text=name, cause=cause)
    return Health(serving, answered=True, text="SERVING" if serving else "NOT_SERVING")


async def check(channel: aio.Channel, timeout_seconds: float) -> bool:
    """Whether the replica reports that it serves.

    Raises:
        AioRpcError: it does not answer the question.
    """
    call: _Call = channel.unary_unary("/grpc.health.v1.Health/Check")
    return await call(_ALL, timeout=timeout_seconds) == _SERVING


async def responds(channel: aio.Channel, timeout_seconds: float) -> bool:
    """Whether the replica answers at all, whatever the answer."""
    try:
        await check(channel, timeout_seconds)
    except aio.AioRpcError as error:
        return error.code() not in _UNREACHABLE
    return True


async def why_unconnected(channel: aio.Channel, timeout_seconds: float) -> str:
    """gRPC's account of why the channel has no connection; empty without one.

    A channel does not report the cause: a call on it does.
    """
    try:
        await check(channel, timeout_seconds)
    except aio.AioRpcError as error:
        return why_never_sent(error)
    return ""


async def watch(channel: aio.Channel, metadata: Metadata) -> AsyncGenerator[bool, None]:
    """Whether the replica reports that it serves, now and whenever that changes. To be closed.

    Raises:
        AioRpcError: it does not answer the question, or the stream has ended.
    """
    call: _Stream = channel.unary_stream("/grpc.health.v1.Health/Watch")
    stream = call(_ALL, metadata=metadata)
    try:
        async for message in stream:
            yield message == _SERVING
    finally:
        stream.cancel()
