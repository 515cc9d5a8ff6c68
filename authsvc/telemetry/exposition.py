"""``/metrics``, on a port of its own: whoever scrapes is nobody who calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, start_http_server

from authsvc.settings import ConfigError


@asynccontextmanager
async def exposed(registry: CollectorRegistry, listen: str) -> AsyncIterator[str]:
    """Serve a registry over HTTP, from threads of its own.

    Args:
        registry: what is served.
        listen: ``host:port``; port 0 takes a free one.

    Yields:
        The address that is listened on.

    Raises:
        ConfigError: it cannot be listened on.
    """
    host, _, port = listen.rpartition(":")
    try:
        server, thread = await asyncio.to_thread(
            start_http_server, int(port), host.strip("[]"), registry
        )
    except OSError as error:
        reason = f"{listen} cannot be listened on; is it taken? ({error.strerror})"
        raise ConfigError(f"metrics.listen: {reason}") from None
    try:
        yield f"{host}:{server.server_port}"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)
