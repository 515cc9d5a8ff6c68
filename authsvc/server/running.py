"""Runs a service on its port, and stops it gracefully."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from authsvc.common import extras

extras.need(
    __name__,
    "server",
    *("aiobotocore", "grpc_health", "grpc_reflection", "httptools", "httpx2", "jwt"),
    *("opentelemetry", "prometheus_client", "pydantic_settings", "redis", "starlette"),
    *("structlog", "uvicorn"),
)
# isort: split

from grpc import aio

from authsvc import __version__
from authsvc.audit import security
from authsvc.common.hangup import read_files_again, reloading
from authsvc.rpc.health import HealthServicer
from authsvc.server.assembly import Service, assembled
from authsvc.server.callers import callers_of
from authsvc.server.config import Settings
from authsvc.server.handlers import add_services
from authsvc.server.housekeeping import Housekeeping
from authsvc.server.listener import listen, new_server
from authsvc.server.workers import Lifeline

log = logging.getLogger(__name__)


async def serve(settings: Settings, lifeline: Lifeline | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls in flight. SIGHUP has files read again.

    Args:
        settings: of authsvc.
        lifeline: of a worker, which also stops once its supervisor is gone.

    Raises:
        ConfigError: as ``running``.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    if lifeline is not None:
        loop.add_reader(lifeline.alive, stop.set)
    async with _service_running(settings, shares_port=lifeline is not None) as (_, service):
        # Objects of the start stay alive: no later collection scans them (43 ms each, measured).
        gc.collect()
        gc.freeze()
        if lifeline is not None:
            lifeline.report_ready()
        with reloading(partial(_reload, service)):
            await stop.wait()
        log.info("stopping")
        if lifeline is not None:
            loop.remove_reader(lifeline.alive)


def _reload(service: Service) -> None:
    read_files_again()
    service.certificates.report()


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    shares_port: bool = False,
) -> AsyncIterator[str]:
    """A running server, stopped gracefully at the end of the block.

    Args:
        settings: of authsvc.
        clock: seconds since the epoch.
        monotonic: seconds of any origin, for the limits of subjects and clients.
        shares_port: whether other workers listen on the same port.

    Yields:
        The address that it listens on, its real port included.

    Raises:
        ConfigError: a file, URL or address of the settings cannot be used.
    """
    served = _service_running(settings, clock, monotonic, shares_port=shares_port)
    async with served as (address, _):
        yield address


@asynccontextmanager
async def _service_running(
    settings: Settings,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    *,
    shares_port: bool,
) -> AsyncIterator[tuple[str, Service]]:
    """As ``running``; the address, and the service."""
    async with assembled(settings, clock, monotonic) as service:
        server = new_server(settings, shares_port=shares_port)
        health = add_services(server, service, callers_of(settings), settings)
        address = listen(server, settings, shares_port=shares_port)
        await server.start()
        housekeeping = Housekeeping(service, health, settings)
        # Before signals are received: many senders of logout tokens send them once, and without
        # keys they would be answered 503.
        await housekeeping.refresh_keys()
        async with (
            _receiving(settings, service),
            _stopped_gracefully(server, service, health, settings),
            housekeeping.running(),
        ):
            _report_started(address, settings, shares_port=shares_port)
            yield address, service


@asynccontextmanager
async def _receiving(settings: Settings, service: Service) -> AsyncIterator[None]:
    """Signals, where ``[signals]`` is set: until the service stops."""
    if settings.signals is None:
        yield
        return
    from authsvc.server.signal_receiver import receiving

    async with receiving(settings, service):
        yield


@asynccontextmanager
async def _stopped_gracefully(
    server: aio.Server, service: Service, health: HealthServicer, settings: Settings
) -> AsyncIterator[None]:
    try:
        yield
    finally:
        health.drain()
        # A load balancer takes a moment to notice: until then, calls are served.
        try:
            await asyncio.sleep(settings.drain_seconds)
        finally:
            service.stopping.set()
            await server.stop(settings.grace_seconds)


def _report_started(address: str, settings: Settings, *, shares_port: bool) -> None:
    digest = configuration_digest(settings)
    security.service_started(address, version=__version__, configuration_sha256=digest)
    event = "working on %s" if shares_port else "listening on %s"
    log.info(event, address, extra={"address": address})


def configuration_digest(settings: Settings) -> str:
    """The SHA-256 of a configuration, in hexadecimal.

    It covers values of the environment, and the names of files with secrets, but not their
    contents. The address of metrics is left out: it differs from worker to worker.
    """
    text = settings.model_dump_json(exclude={"metrics": {"listen"}})
    return hashlib.sha256(text.encode()).hexdigest()
