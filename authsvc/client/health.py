"""Asks a replica for its health: ``grpc.health.v1.Health``, whose two messages are small enough to
be written by hand; their package would be one more to need."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc
from grpc import aio

from authsvc.client.failures import why_never_sent
from authsvc.client.tls import Metadata

_ALL = b""
"""``HealthCheckRequest{service: ""}``: the server as a whole."""

_Call = aio.UnaryUnaryMultiCallable[bytes, bytes]
_Stream = aio.UnaryStreamMultiCallable[bytes, bytes]

_SERVING = b"\x08\x01"
"""``HealthCheckResponse{status: SERVING}``: field 1, a varint, 1."""

_NOBODY_THERE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


async def check(channel: aio.Channel, timeout_seconds: float) -> bool:
    """Whether the replica says that it serves.

    Raises:
        AioRpcError: it does not tell.
    """
    ask: _Call = channel.unary_unary("/grpc.health.v1.Health/Check")
    return await ask(_ALL, timeout=timeout_seconds) == _SERVING


async def answers(channel: aio.Channel, timeout_seconds: float) -> bool:
    """Whether the replica answers at all, whatever it says."""
    try:
        await check(channel, timeout_seconds)
    except aio.AioRpcError as error:
        return error.code() not in _NOBODY_THERE
    return True


async def why_unconnected(channel: aio.Channel, timeout_seconds: float) -> str:
    """gRPC's account of why the channel has no connection; empty without one.

    A channel does not tell: its calls do.
    """
    try:
        await check(channel, timeout_seconds)
    except aio.AioRpcError as error:
        return why_never_sent(error)
    return ""


async def watch(channel: aio.Channel, metadata: Metadata) -> AsyncGenerator[bool, None]:
    """Whether the replica says that it serves, now and whenever that changes. To be closed.

    Raises:
        AioRpcError: it does not tell, or not any more.
    """
    ask: _Stream = channel.unary_stream("/grpc.health.v1.Health/Watch")
    stream = ask(_ALL, metadata=metadata)
    try:
        async for message in stream:
            yield message == _SERVING
    finally:
        stream.cancel()
