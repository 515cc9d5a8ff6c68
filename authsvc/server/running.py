"""Puts the parts together, runs them, and takes them down in order."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

from authsvc.common import extras

extras.need(
    __name__,
    "server",
    *("aiobotocore", "grpc_health", "grpc_reflection", "httpx2", "jwt", "opentelemetry"),
    *("prometheus_client", "pydantic_settings", "redis", "structlog"),
)
# isort: split

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from authsvc import __version__
from authsvc.access import audit
from authsvc.access.callers import LOCAL_CALLER, Caller, Callers, ServiceTokenFile
from authsvc.access.limits import Usages
from authsvc.admin.issuers import IssuerWatch, WatchedIssuer
from authsvc.admin.sessions import SessionAdmin, tidy
from authsvc.common.settings import ConfigError
from authsvc.net.descriptors import room_for
from authsvc.net.tls import ServerCertificates
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admin_service import SessionAdminServicer
from authsvc.rpc.admission import Edge
from authsvc.rpc.auth_service import (
    AuthServicer,
    GuardedHealthServicer,
    GuardedReflectionServicer,
)
from authsvc.rpc.waiting import BoundedHandlers, GenericHandlers
from authsvc.server.brokers import open_broker
from authsvc.server.config import LimitSettings, Settings, TlsSettings
from authsvc.server.issuers import issuer_of, with_introspection
from authsvc.server.stores import open_store
from authsvc.server.workers import Lifeline
from authsvc.telemetry.exposition import exposed
from authsvc.telemetry.families import registry_of
from authsvc.telemetry.metrics import Metrics, ServiceCollector
from authsvc.telemetry.observed import ObservedBroker, ObservedStore, ObservedVerifier
from authsvc.telemetry.tracing import tracing
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

SWEEP_INTERVAL_SECONDS = 60.0

COUNT_INTERVAL_SECONDS = 15.0
"""How often sessions are counted, for metrics: as often as they are scraped, by Prometheus's
default or so."""

REFRESH_INTERVAL_SECONDS = 2.0
"""How often it is looked whether keys are due; fetches are far rarer."""

REPORT_INTERVAL_SECONDS = 0.25
"""How often health is looked at: whoever balances load should not be late."""

_SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTED = (
    *_SERVICES,
    _HEALTH,
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name,
)

MAX_PENDING_CALLS = 10_000
"""Calls that wait to be accepted, all connections together; further ones are cancelled."""

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 20),
    # A peer has 10 s to send the first frame of HTTP/2 (TLS included), as long to acknowledge our
    # settings, and as long to answer a ping. gRPC would wait for 120 s, 60 s and 60 s, and for
    # two hours before it pings.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Once 1,000 calls wait to be accepted, gRPC would end calls at random. Streams bound them.
    ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
    # Clients ping idle connections every 15 seconds.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


async def serve(settings: Settings, lifeline: Lifeline | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight.

    Args:
        settings: how.
        lifeline: of a worker, which ends with its supervisor, too.

    Raises:
        ConfigError: the address cannot be listened on, or a file that settings name is unfit.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    if lifeline is not None:
        loop.add_reader(lifeline.alive, stop.set)
    async with running(settings, shares_port=lifeline is not None):
        # What there is now stays: no collection looks at it again (43 ms each time, measured).
        gc.collect()
        gc.freeze()
        if lifeline is not None:
            os.write(lifeline.ready, b"1")
        await stop.wait()
        log.info("stopping")
        if lifeline is not None:
            loop.remove_reader(lifeline.alive)


@asynccontextmanager
async def running(
    settings: Settings, *, clock: Callable[[], float] = time.time, shares_port: bool = False
) -> AsyncIterator[str]:
    """A running server, stopped gracefully on the way out.

    Args:
        settings: how to run it.
        clock: seconds since the epoch.
        shares_port: whether other workers listen on the same port.

    Yields:
        The address that it listens on, its real port included.

    Raises:
        ConfigError: as ``serve``.
    """
    issuers = tuple(map(issuer_of, settings.issuers))
    verifier = JwtVerifier(
        issuers,
        max_token_bytes=settings.max_token_bytes,
        memo_size=settings.cached_tokens,
    )
    closing = AsyncExitStack()
    metrics = Metrics()
    try:
        traces = await closing.enter_async_context(tracing(settings.tracing, "authsvc"))
        store = ObservedStore(
            await open_store(settings), traces.around("store", metrics.store.timed)
        )
        closing.push_async_callback(store.close)
        usages = Usages(
            settings.limits.caller_limits(),
            clock,
            total=settings.limits.max_concurrent_calls,
            callers=len(settings.callers),
        )
        limits = settings.session_limits()
        stopping = asyncio.Event()
        closing.enter_context(metrics.security.heard())
        if settings.metrics is not None:
            registry = registry_of(ServiceCollector(metrics, clock))
            at = await closing.enter_async_context(exposed(registry, settings.metrics.listen))
            log.info("metrics at %s", at, extra={"address": at})
        broker = await closing.enter_async_context(open_broker(settings, metrics.issuing))
        resolver = SessionResolver(
            ObservedVerifier(
                with_introspection(verifier, settings), traces.around("token", metrics.tokens.timed)
            ),
            store,
            ObservedBroker(broker, traces.around("broker", metrics.credentials.timed))
            if broker
            else None,
            limits=limits,
            usages=usages,
            clock=clock,
            answers_kept=settings.cached_tokens,
        )
        metrics.cached_responses = lambda: resolver.answers_kept
        server = aio.server(options=_options(settings, shares_port=shares_port))
        services = GenericHandlers()
        edge = Edge(callers_of(settings), usages)
        AuthServicer(resolver, edge, stopping, metrics, traces).add_to(services)
        issuer_watch = _issuer_watch(settings, issuers)
        admin = SessionAdmin(
            store,
            end_session=resolver.revoke,
            issuers=issuer_watch.status,
            stopping=stopping,
            clock=clock,
        )
        generic = cast("aio.Server", services)
        operators = SessionAdminServicer(admin, edge)
        pb_grpc.add_SessionAdminServiceServicer_to_server(operators, generic)
        health = GuardedHealthServicer(edge, stopping)
        health_pb2_grpc.add_HealthServicer_to_server(health, generic)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            GuardedReflectionServicer(edge, _REFLECTED), generic
        )
        server.add_generic_rpc_handlers((_bounded(services, edge, settings.limits),))
        address = _listen(server, settings)
        await server.start()

        keys_ready = False

        async def refresh() -> None:
            nonlocal keys_ready
            keys_ready = await verifier.refresh(clock())
            metrics.issuers = issuer_watch.status(clock())

        async def report() -> None:
            # We say that we serve only while there are keys of every issuer, and the store.
            metrics.ready = keys_ready and store.ready
            for service in ("", *_SERVICES):
                health.report(service, serving=metrics.ready)

        async def sweep() -> None:
            await tidy(store, now=clock(), limits=limits)

        async def count() -> None:
            if settings.metrics is not None:
                metrics.sessions = (await admin.status(count_sessions=True)).sessions

        await refresh()
        await report()
        tasks = (
            asyncio.create_task(_repeat("count", COUNT_INTERVAL_SECONDS, count, begin=0.0)),
            asyncio.create_task(_repeat("report", REPORT_INTERVAL_SECONDS, report)),
            asyncio.create_task(_repeat("sweep", SWEEP_INTERVAL_SECONDS, sweep)),
            asyncio.create_task(_repeat("refresh", REFRESH_INTERVAL_SECONDS, refresh)),
        )
        audit.service_started(address, version=__version__, configuration_sha256=_digest(settings))
        event = "working on %s" if shares_port else "listening on %s"
        log.info(event, address, extra={"address": address})
        try:
            yield address
        finally:
            for task in tasks:
                task.cancel()
            health.leave()
            # Whoever balances load takes a moment to notice; until then calls are welcome.
            try:
                await asyncio.sleep(settings.drain_seconds)
            finally:
                stopping.set()
                await server.stop(settings.grace_seconds)
    finally:
        await closing.aclose()


def _options(settings: Settings, *, shares_port: bool) -> list[tuple[str, int]]:
    # Two servers on one port share its connections at random: a taken port is an error, unless it
    # is meant.
    streams = settings.limits.max_concurrent_streams_per_connection
    options = [
        *_SERVER_OPTIONS,
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_allowed_incoming_connections", room_for(settings.limits.max_connections)),
        ("grpc.max_concurrent_streams", streams),
        # A call that has been answered is freed a moment after its client may begin the next one.
        # Without room for these, gRPC would refuse calls of clients that keep to the bound.
        ("grpc.http2.max_deallocating_streams", streams),
    ]
    if settings.max_connection_idle_seconds:
        options.append(
            ("grpc.max_connection_idle_ms", round(1000 * settings.max_connection_idle_seconds))
        )
    if settings.max_connection_age_seconds:
        # gRPC spreads it by a tenth to both sides, so that not all come back at once.
        options += [
            ("grpc.max_connection_age_ms", round(1000 * settings.max_connection_age_seconds)),
            ("grpc.max_connection_age_grace_ms", round(1000 * settings.grace_seconds)),
        ]
    return options


def _bounded(services: GenericHandlers, edge: Edge, limits: LimitSettings) -> BoundedHandlers:
    return BoundedHandlers(
        services.handlers,
        edge,
        most=limits.max_unauthenticated_calls,
        seconds=limits.request_timeout_seconds,
        open_methods=(f"/{_HEALTH}/Check",),
    )


def _digest(settings: Settings) -> str:
    """What tells one configuration from another, the environment's part included. It covers the
    names of files with secrets, not what they hold."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()


def _issuer_watch(settings: Settings, issuers: tuple[Issuer, ...]) -> IssuerWatch:
    return IssuerWatch(
        (
            WatchedIssuer(issuer.issuer, item.key_setting, issuer.keys)
            for item, issuer in zip(settings.issuers, issuers, strict=True)
        ),
        settings.introspection.issuer if settings.introspection else "",
    )


def _listen(server: aio.Server, settings: Settings) -> str:
    address = settings.listen
    credentials = server_credentials(settings.tls)
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConfigError(f"listen: {address} cannot be listened on; is it taken?") from None
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def server_credentials(settings: TlsSettings | None) -> grpc.ServerCredentials | None:
    """What a listener shows, and asks of callers; None in the clear.

    Raises:
        ConfigError: a file is unfit.
    """
    if settings is None:
        return None
    certificates = ServerCertificates(
        settings.certificate_file, settings.key_file, settings.client_ca_file
    )
    try:
        return certificates.credentials()
    except (OSError, ValueError) as error:
        raise ConfigError(f"tls: {error}") from None


def callers_of(settings: Settings) -> Callers:
    """Who may call.

    Raises:
        ConfigError: a service token's file is unfit, or two callers cannot be told apart.
    """
    registered = [
        Caller(
            name=item.name,
            resources=frozenset(item.resources),
            admin=item.admin,
            certificate_names=frozenset(item.certificate_names),
            token_digests=tuple(bytes.fromhex(digest) for digest in item.service_token_sha256),
            token_files=tuple(
                _service_token_file(path, f"callers[{item.name}].service_token_files")
                for path in item.service_token_files
            ),
        )
        for item in settings.callers
    ]
    local = Caller(LOCAL_CALLER, frozenset(settings.resources)) if settings.resources else None
    try:
        return Callers(registered, local=local)
    except ValueError as error:
        raise ConfigError(f"callers: {error}") from None


def _service_token_file(path: Path, setting: str) -> ServiceTokenFile:
    try:
        return ServiceTokenFile(path)
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{setting}: {path}: {error}") from None


async def _repeat(
    what: str,
    seconds: float,
    action: Callable[[], Awaitable[object]],
    *,
    begin: float | None = None,
) -> None:
    """Do something every so often, come what may; for the first time after ``begin`` seconds."""
    await asyncio.sleep(seconds if begin is None else begin)
    while True:
        try:
            await action()
        except Exception:
            # Housekeeping that ends because of one failure would be missed much later.
            log.exception("%s has failed, and will be tried again", what)
        await asyncio.sleep(seconds)
