"""Whether an endpoint can be connected to, as the service would."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from authsvc.net.client_identity import ClientIdentity
from authsvc.net.failures import ProxyAnswerError
from authsvc.net.proxies import Proxy
from authsvc.net.trust import Trust, tls_context

REACH_SECONDS = 4.0
"""How long that may take. Of several endpoints, one that does not answer hides no other."""

ALERT_SECONDS = 0.5
"""How long a server may take to reject the client's certificate."""


async def reach(
    url: str, trust: Trust | None, proxy: Proxy | None, identity: ClientIdentity | None = None
) -> None:
    """Connect and disconnect, without a request: a request to a broker has effects.

    Args:
        url: the endpoint.
        trust: the certificate authorities; None for the system's.
        proxy: what https goes through; None for a direct connection.
        identity: the certificate that the endpoint is shown, and no proxy; None for none.

    Raises:
        OSError: it cannot be connected to, or does not accept the certificate.
    """
    servers = tls_context() if trust is None else trust.context()
    context = servers if identity is None else identity.context()
    host, port, secure = _address(url)
    try:
        async with asyncio.timeout(REACH_SECONDS):
            if proxy is None:
                tls = context if secure else None
                reader, writer = await asyncio.open_connection(host, port, ssl=tls)
            else:
                reader, writer = await _tunnel(proxy, host, port, servers, context)
    except TimeoutError:
        raise TimeoutError(f"no connection in {REACH_SECONDS:g} seconds") from None
    try:
        if secure:
            await _hear_alert(reader)
    finally:
        writer.close()


async def _hear_alert(reader: asyncio.StreamReader) -> None:
    """Wait for the alert of a server that does not accept the client's certificate.

    In TLS 1.3 the client's handshake ends before the server has seen the certificate.

    Raises:
        ssl.SSLError: there is one.
    """
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(ALERT_SECONDS):
            await reader.read(1)


async def _tunnel(
    proxy: Proxy, host: str, port: int, of_proxy: ssl.SSLContext, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    proxy_host, proxy_port, secure = _address(proxy.url)
    reader, writer = await asyncio.open_connection(
        proxy_host, proxy_port, ssl=of_proxy if secure else None
    )
    done = False
    try:
        target = f"{f'[{host}]' if ':' in host else host}:{port}"
        auth = proxy.authorization()
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", answer)
        if status is None or not status[1].startswith(b"2"):
            told = status[1].decode() if status else "something else"
            raise ProxyAnswerError(f"the proxy {proxy.url} answered {told} to CONNECT")
        await writer.start_tls(context, server_hostname=host)
        done = True
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ProxyAnswerError(f"the proxy {proxy.url} does not answer in HTTP") from None
    finally:
        if not done:
            writer.close()
    return reader, writer


def _address(url: str) -> tuple[str, int, bool]:
    """Host and port of a URL, and whether it is https."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if secure else 80), secure
