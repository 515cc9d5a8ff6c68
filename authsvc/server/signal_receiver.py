"""Receives signals over HTTP, and polls for them, as ``[signals]`` says. Imported where needed."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import uvicorn

from authsvc.common.config_faults import ConfigFaults
from authsvc.common.listening import port_of
from authsvc.http_server.embedded import EmbeddedServer
from authsvc.http_server.listening import listening_sockets
from authsvc.http_server.settings import ConnectionSettings, HttpLimits
from authsvc.net.addresses import with_port
from authsvc.server.assembly import Service
from authsvc.server.config import Settings, SignalSettings, SignalStreamSettings
from authsvc.server.egress import fetcher_of
from authsvc.server.https import served_context_of
from authsvc.server.secret_files import secret_of
from authsvc.server.signal_thread import AcrossLoops, serving_in_thread
from authsvc.signals.endpoint import EndpointLimits, SignalEndpoint
from authsvc.signals.polling import PollObserver, SetPoller, Transmitter
from authsvc.signals.push_authorization import PushAuthorization
from authsvc.signals.receiving import SignalReceiver

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 32 * 1024
"""All headers of a request."""

MAX_PIPELINED = 2
"""Requests that may wait for the response to an earlier one. Senders have one in flight."""

CONNECTIONS = ConnectionSettings(
    max_connections=1_000,
    header_timeout_seconds=10.0,
    request_timeout_seconds=15.0,
    write_timeout_seconds=10.0,
    max_buffered_bytes=64 * 1024 * 1024,
)
"""Limits of the receiver's connections, in each worker."""


@asynccontextmanager
async def receiving(settings: Settings, service: Service) -> AsyncIterator[None]:
    """Signals are received and polled until the service stops, or the block ends.

    Raises:
        ConfigError: a file cannot be used, or the address cannot be listened on.
    """
    table, processor, counts = settings.signals, service.signals, service.metrics.signals
    statuses = service.signal_statuses
    if table is None or processor is None or counts is None or statuses is None:
        yield
        return
    pollers = pollers_of(table, processor, (counts, statuses))
    async with (
        served_signals(processor, table, settings, service.stopping),
        _polling(pollers, service.stopping),
    ):
        yield


@asynccontextmanager
async def served_signals(
    receiver: SignalReceiver, table: SignalSettings, settings: Settings, stopping: asyncio.Event
) -> AsyncIterator[str]:
    """The receiver over HTTP, until the end of the block or until ``stopping`` is set. Signals in
    flight are answered.

    Args:
        receiver: verifies signals and carries them out.
        table: ``[signals]``.
        settings: all of them.
        stopping: is set when the service stops.

    Yields:
        The address that it listens on.

    Raises:
        ConfigError: a file cannot be used, or the address cannot be listened on.
    """
    endpoint = SignalEndpoint(
        AcrossLoops(receiver, asyncio.get_running_loop()),
        push_authorization_of(table),
        _limits(table),
        client_address_header=table.client_address_header,
    )
    tls = served_context_of(table.listen, settings.tls)
    with listening_sockets(
        table.listen, setting="signals.listen", shares_port=settings.workers > 1
    ) as listeners:
        address = with_port(table.listen, port_of(listeners))
        limits = HttpLimits(
            CONNECTIONS, max_header_bytes=MAX_HEADER_BYTES, max_pipelined=MAX_PIPELINED
        )
        server = EmbeddedServer(_uvicorn(endpoint, settings), limits, tls=tls)
        stops = asyncio.create_task(_stop_with(stopping, server), name="stop receiving signals")
        try:
            async with serving_in_thread(server, listeners):
                log.info("receiving signals at %s", address, extra={"address": address})
                yield address
        finally:
            stops.cancel()


def _uvicorn(endpoint: SignalEndpoint, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        endpoint.application(),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http="httptools",
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
    )


async def _stop_with(stopping: asyncio.Event, server: uvicorn.Server) -> None:
    await stopping.wait()
    server.should_exit = True


@asynccontextmanager
async def _polling(pollers: Iterable[SetPoller], stopping: asyncio.Event) -> AsyncIterator[None]:
    """Pollers, each in a task of its own, until the end of the block or until ``stopping`` is
    set. What they have received is acknowledged."""
    ended = asyncio.Event()
    stops = asyncio.create_task(_set_with(stopping, ended), name="stop polling for signals")
    tasks = [asyncio.create_task(it.run(ended), name="poll for signals") for it in pollers]
    try:
        yield
    finally:
        stops.cancel()
        ended.set()
        await asyncio.gather(*tasks)


async def _set_with(stopping: asyncio.Event, ended: asyncio.Event) -> None:
    await stopping.wait()
    ended.set()


def pollers_of(
    table: SignalSettings, receiver: SignalReceiver, observers: Sequence[PollObserver]
) -> list[SetPoller]:
    """A poller for each stream that is polled.

    Raises:
        ConfigError: a file cannot be used.
    """
    transmitters = filter(None, map(transmitter_of, table.streams))
    return [
        SetPoller(transmitter, receiver, observers, max_set_bytes=table.max_body_bytes)
        for transmitter in transmitters
    ]


def transmitter_of(stream: SignalStreamSettings) -> Transmitter | None:
    """Where a stream's SETs are polled; None where they are not.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    url, file = stream.poll_url, stream.poll_authorization_file
    if url is None or file is None:
        return None
    faults = ConfigFaults()
    with faults.gathered():
        secret_of(file, f"{stream.table}.poll_authorization_file")
    with faults.gathered():
        fetcher = fetcher_of(stream, stream.table)
    faults.check()
    return Transmitter(stream.issuer, url, file, fetcher)


def push_authorization_of(table: SignalSettings) -> PushAuthorization:
    """The check of pushes as configured.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    files, faults = {}, ConfigFaults()
    for stream in table.streams:
        if stream.push_authorization_file is not None:
            with faults.gathered():
                secret_of(stream.push_authorization_file, f"{stream.table}.push_authorization_file")
            files[stream.issuer] = stream.push_authorization_file
    faults.check()
    return PushAuthorization(files)


def _limits(table: SignalSettings) -> EndpointLimits:
    return EndpointLimits(
        requests_per_second=table.requests_per_second,
        requests_burst=table.requests_burst,
        rejected_per_second_per_client=table.rejected_per_second_per_client,
        rejected_burst_per_client=table.rejected_burst_per_client,
        max_body_bytes=table.max_body_bytes,
    )
