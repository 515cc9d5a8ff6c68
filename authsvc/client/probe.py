"""Asks one server for its health, over gRPC or HTTP. For probes and for ``authsvc doctor``."""

from __future__ import annotations

import asyncio
import http.client
from contextlib import closing
from urllib.parse import urlsplit

from authsvc.client.tls import ClientTls

SERVING = "SERVING"


async def grpc_health(
    address: str, *, tls: ClientTls | None = None, name: str = "", timeout_seconds: float
) -> str:
    """What a server answers to ``grpc.health.v1.Health/Check``.

    Args:
        address: ``host:port`` or ``unix:/path``.
        tls: None in the clear.
        name: that of its certificate, if not the address's.
        timeout_seconds: connecting included.

    Returns:
        ``SERVING``, ``NOT_SERVING``, or the gRPC status code with which it did not tell.

    Raises:
        OSError: a file of ``tls`` is unfit.
    """
    # Here, since HTTP does without, and a probe runs often.
    from grpc import aio

    from authsvc.client.health import check
    from authsvc.net.channels import open_channel

    options = (("grpc.ssl_target_name_override", name),) if name else ()
    credentials = tls.channel_credentials() if tls else None
    async with open_channel(address, credentials, options) as channel:
        try:
            return SERVING if await check(channel, timeout_seconds) else "NOT_SERVING"
        except aio.AioRpcError as error:
            return str(error.code().name)


def http_status(url: str, *, timeout_seconds: float) -> int:
    """The status that an ``http://`` URL answers with.

    Raises:
        OSError: there is no answer.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        str(parts.hostname), parts.port, timeout=timeout_seconds
    )
    try:
        with closing(connection):
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"not HTTP: {type(error).__name__}") from None


def grpc_health_now(
    address: str, *, tls: ClientTls | None = None, name: str = "", timeout_seconds: float
) -> str:
    """The same as ``grpc_health``, outside of an event loop."""
    return asyncio.run(grpc_health(address, tls=tls, name=name, timeout_seconds=timeout_seconds))
