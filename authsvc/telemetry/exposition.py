"""Serves ``/metrics`` on a port of its own: a scraper is not one of the callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, make_wsgi_app

from authsvc.common.wsgi_serving import served


@asynccontextmanager
async def exposed(registry: CollectorRegistry, listen: str) -> AsyncIterator[str]:
    """Serve a registry over HTTP, from threads of its own.

    Args:
        registry: the metrics.
        listen: ``host:port``; port 0 is any free one.

    Yields:
        The address that it listens on.

    Raises:
        ConfigError: it cannot be listened on.
    """
    application = make_wsgi_app(registry)
    async with served(application, listen, name="metrics", setting="metrics.listen") as address:
        yield address
