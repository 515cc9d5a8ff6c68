"""Opens connections: to where a replica listens, without any proxy."""

from __future__ import annotations

import asyncio
import ssl

from authsvc.client.http2.call import GrpcCall
from authsvc.client.http2.connection import Connection
from authsvc.client.targets import Endpoint
from authsvc.net.addresses import split

CONNECT_SECONDS = 10.0
"""How long it may take to connect, all handshakes included. As of ``authsvc.net.channels``."""

TLS_CLOSE_SECONDS = 1.0
"""How long the end of TLS is waited for when a connection is closed."""

_UNIX_NAME = "localhost"
"""Whom a call over a Unix socket is made to, as gRPC has it."""


async def connect(
    endpoint: Endpoint, context: ssl.SSLContext | None, details_key: str
) -> Connection:
    """A connection whose peer speaks HTTP/2.

    Args:
        endpoint: where to.
        context: verifies the peer; None in the clear.
        details_key: the trailer that has the details of a status.

    Raises:
        OSError: there is no connection; TLS, its certificates and a timeout included.
    """
    loop = asyncio.get_running_loop()
    scheme = "http" if context is None else "https"
    connection = Connection(GrpcCall(authority(endpoint), scheme, details_key), loop)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await _open(loop, connection, endpoint, context)
            await connection.connected
    except BaseException:
        connection.abort()
        raise
    return connection


def authority(endpoint: Endpoint) -> str:
    """Whom a call is made to: the name of the certificate, or the address."""
    if endpoint.host:
        return endpoint.host
    return _UNIX_NAME if endpoint.address.startswith("unix:") else endpoint.address


async def _open(
    loop: asyncio.AbstractEventLoop,
    connection: Connection,
    endpoint: Endpoint,
    context: ssl.SSLContext | None,
) -> None:
    path = _unix_path(endpoint.address)
    host, port = ("", 0) if path is not None else split(endpoint.address)
    tls_name = timeout = None
    if context is not None:
        tls_name, timeout = _tls_name(endpoint.host or host), TLS_CLOSE_SECONDS
    if path is not None:
        await loop.create_unix_connection(
            lambda: connection,
            path,
            ssl=context,
            server_hostname=tls_name,
            ssl_shutdown_timeout=timeout,
        )
    else:
        await loop.create_connection(
            lambda: connection,
            host,
            port,
            ssl=context,
            server_hostname=tls_name,
            ssl_shutdown_timeout=timeout,
        )


def _tls_name(host: str) -> str:
    """The name or address that a certificate has to have.

    Raises:
        OSError: no certificate can have it.
    """
    # An address may name its zone and a name may end with a dot; in a certificate they do not.
    name = host.partition("%")[0].removesuffix(".") or _UNIX_NAME
    try:
        name.encode("idna")
    except UnicodeError:
        raise ConnectionError("the name of the replica is invalid") from None
    return name


def _unix_path(address: str) -> str | None:
    """``unix:path`` and ``unix:///path``; None for another address."""
    if not address.startswith("unix:"):
        return None
    path = address.removeprefix("unix:")
    return path.removeprefix("//") if path.startswith("///") else path
