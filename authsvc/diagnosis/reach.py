"""Whether an endpoint can be connected to, as the service would."""

from __future__ import annotations

import asyncio
import re
import ssl
from urllib.parse import urlsplit

from authsvc.net.failures import ProxyAnswerError
from authsvc.net.proxies import Proxy
from authsvc.net.trust import Trust, tls_context

REACH_SECONDS = 4.0
"""How long that may take. Of several endpoints, one that does not answer hides no other."""


async def reach(url: str, trust: Trust | None, proxy: Proxy | None) -> None:
    """Connect and disconnect, without a request: a request to a broker has effects.

    Args:
        url: the endpoint.
        trust: the certificate authorities; None for the system's.
        proxy: what https goes through; None for a direct connection.

    Raises:
        OSError: it cannot be connected to.
    """
    context = tls_context() if trust is None else trust.context()
    host, port, secure = _address(url)
    try:
        async with asyncio.timeout(REACH_SECONDS):
            if proxy is None:
                tls = context if secure else None
                _, writer = await asyncio.open_connection(host, port, ssl=tls)
            else:
                writer = await _tunnel(proxy, host, port, context)
    except TimeoutError:
        raise TimeoutError(f"no connection in {REACH_SECONDS:g} seconds") from None
    writer.close()


async def _tunnel(
    proxy: Proxy, host: str, port: int, context: ssl.SSLContext
) -> asyncio.StreamWriter:
    proxy_host, proxy_port, secure = _address(proxy.url)
    reader, writer = await asyncio.open_connection(
        proxy_host, proxy_port, ssl=context if secure else None
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
    return writer


def _address(url: str) -> tuple[str, int, bool]:
    """Host and port of a URL, and whether it is https."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if secure else 80), secure
