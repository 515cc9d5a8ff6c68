"""Serves ``/metrics`` on a port of its own: a scraper is not one of the callers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from authsvc.common.wsgi_serving import served
from authsvc.telemetry.families import registry_of

log = logging.getLogger(__name__)


@asynccontextmanager
async def metrics_exposed(collector: Collector, listen: str | None) -> AsyncIterator[None]:
    """Serve the metrics of a program at the address of its ``[metrics]``, and log where.

    Args:
        collector: the program's metrics; those of the process are added.
        listen: ``host:port``; None to serve none.

    Raises:
        ConfigError: it cannot be listened on.
    """
    if listen is None:
        yield
        return
    async with exposed(registry_of(collector), listen) as address:
        log.info("metrics at %s", address, extra={"address": address})
        yield


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
