"""Runs the console: opens its resources, listens, and closes them in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import uvicorn

from authsvc.client import AdminClient
from authsvc.common.config_faults import ConfigFaults
from authsvc.common.file_faults import file_fault
from authsvc.common.hangup import read_files_again, reloading
from authsvc.common.listening import port_of
from authsvc.common.periodic import repeat
from authsvc.common.settings import ConfigError
from authsvc.console.app import build_app
from authsvc.console.config import AuthsvcSettings, ConsoleSettings, TlsSettings
from authsvc.console.operators import OperatorsFile
from authsvc.console.telemetry import ConsoleMetrics
from authsvc.http_server.embedded import EmbeddedServer
from authsvc.http_server.listening import listening_sockets
from authsvc.http_server.settings import HttpLimits
from authsvc.net.certificate_files import CHECK_SECONDS, CertificateFiles
from authsvc.net.served_context import ServedContext
from authsvc.telemetry.exposition import metrics_exposed

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 32 * 1024
"""All headers of a request."""

GRACE_SECONDS = 5
"""Time for requests in flight when the console stops."""


async def serve(settings: ConsoleSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight. SIGHUP has files read again.

    Raises:
        ConfigError: the address cannot be listened on, or a configured file cannot be used.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    certificates = CertificateFiles(_certificate_files(settings))
    async with running(settings, ConsoleMetrics(certificates.validities)):
        checking = repeat("certificates", CHECK_SECONDS, certificates.check, begin=0.0)
        checks = asyncio.create_task(checking, name="check certificates")
        try:
            with reloading(partial(_reload, certificates)):
                await stop.wait()
        finally:
            checks.cancel()
        log.info("stopping")


def _reload(certificates: CertificateFiles) -> None:
    read_files_again()
    certificates.report()


@asynccontextmanager
async def running(
    settings: ConsoleSettings,
    metrics: ConsoleMetrics | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[str]:
    """A running console. It stops gracefully when the context ends.

    Args:
        settings: of the console.
        metrics: of the console; None for new ones.
        clock: seconds since the epoch.

    Yields:
        The console's address in a browser on this machine, such as ``http://127.0.0.1:8081``.

    Raises:
        ConfigError: as ``serve``.
    """
    operators = _operators(settings)
    metrics = metrics or ConsoleMetrics()
    of_metrics = settings.metrics.listen if settings.metrics is not None else None
    with listening_sockets(settings.listen) as listeners:
        port = port_of(listeners)
        origins = settings.origins(port)
        async with metrics_exposed(metrics, of_metrics), _client(settings.authsvc) as client:
            app = build_app(
                settings,
                client=client,
                operators=operators,
                origins=origins,
                metrics=metrics,
                clock=clock,
            )
            limits = HttpLimits(settings.connections, settings.keep_alive_seconds, MAX_HEADER_BYTES)
            server = EmbeddedServer(_uvicorn(app), limits, tls=_served_context(settings.tls))
            serving = asyncio.create_task(server.serve(listeners), name="serve the console")
            try:
                await server.is_ready(serving)
                url = settings.url or f"{'https' if settings.tls else 'http'}://127.0.0.1:{port}"
                log.info("listening on %s", url, extra={"address": url})
                yield url
            finally:
                server.should_exit = True
                await serving


def _certificate_files(settings: ConsoleSettings) -> dict[str, Path | None]:
    tls, authsvc = settings.tls, settings.authsvc
    return {
        "tls.certificate_file": tls.certificate_file if tls is not None else None,
        **authsvc.certificate_files(authsvc.ca_file),
    }


def _served_context(tls: TlsSettings | None) -> ServedContext | None:
    """The console's own certificate, which follows its files; None for HTTP.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    if tls is None:
        return None
    faults = ConfigFaults()
    # ssl names no file.
    for name, path in (("certificate_file", tls.certificate_file), ("key_file", tls.key_file)):
        try:
            path.read_bytes()
        except OSError as error:
            faults.add(f"tls.{name}: {file_fault(path, error)}")
    faults.check()
    try:
        return ServedContext(tls.certificate_file, tls.key_file)
    except OSError as error:
        raise ConfigError(f"tls: {error}") from None


def _uvicorn(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # an ASGI app, which uvicorn spells in its own types
        log_config=None,
        log_level="warning",
        access_log=False,  # the URLs of pages contain subjects and session ids
        server_header=False,
        proxy_headers=False,
        http="httptools",
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _operators(settings: ConsoleSettings) -> OperatorsFile:
    path = settings.operators_file
    try:
        return OperatorsFile(path)
    except OSError as error:
        raise ConfigError(f"operators_file: {file_fault(path, error)}") from None
    except ValueError as error:
        raise ConfigError(f"operators_file: {path}: {error}") from None


def _client(settings: AuthsvcSettings) -> AdminClient:
    tls = settings.tls(settings.ca_file)
    token_file = settings.service_token_file
    try:
        if token_file is not None:
            token_file.read_bytes()
        return AdminClient(settings.target, deadline_seconds=settings.deadline_seconds, tls=tls)
    except OSError as error:
        raise ConfigError(f"authsvc: service_token_file {token_file}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"authsvc: {error}") from None
