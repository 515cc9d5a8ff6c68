"""From settings to a service: all its parts, connected, without a port or a transport."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from authsvc.access.rates import CallRates
from authsvc.access.usage import Usages
from authsvc.admin.issuers import IssuerWatch, WatchedIssuer
from authsvc.admin.sessions import SessionAdmin, no_streams
from authsvc.assertions.signer import Assertions
from authsvc.audit import security
from authsvc.audit.calls import CallAudit
from authsvc.audit.security_file import appending_to_file
from authsvc.audit.sessions import SessionAudit
from authsvc.common.file_faults import file_fault
from authsvc.common.settings import ConfigError
from authsvc.credentials import CredentialBroker
from authsvc.credentials.routing import CredentialRouter
from authsvc.net.certificate_files import CertificateFiles
from authsvc.resolver.resolver import SessionResolver
from authsvc.server.assertions import open_assertions
from authsvc.server.brokers import open_broker
from authsvc.server.config import Settings
from authsvc.server.expiries import certificate_files
from authsvc.server.issuers import issuer_of, with_introspection
from authsvc.server.metrics import metrics_of
from authsvc.server.signals import counts_of, processor_of, statuses_of
from authsvc.server.stores import open_store
from authsvc.signals.processing import SignalProcessor
from authsvc.signals.status import SignalStatuses
from authsvc.stores import SessionStore
from authsvc.telemetry.clocks import ClockOffsets
from authsvc.telemetry.exposition import metrics_exposed
from authsvc.telemetry.metrics import (
    UNKNOWN_NAME,
    Metrics,
    ServiceCollector,
    credential_label,
)
from authsvc.telemetry.observed import ObservedBroker, ObservedStore, ObservedVerifier
from authsvc.telemetry.spans import OperationObserver, Tracing
from authsvc.telemetry.tracing import tracing
from authsvc.tokens import TokenVerifier
from authsvc.tokens.jwt import Issuer, JwtVerifier

log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one service.

    Attributes:
        verifier: checks JWTs; its keys have to be refreshed.
        issuers: reports on the issuers' keys.
        store: keeps the sessions.
        usages: what each caller uses at the moment.
        resolver: decides on sessions.
        admin: does what operators ask for.
        call_audit: writes the calls that gateways ask about.
        session_audit: audits what becomes of sessions.
        assertions: tell upstreams who is asking, by keys that have to be refreshed; None without
            ``[assertions]``.
        signals: receives the signals of identity providers, by keys that have to be refreshed; None
            without ``[signals]``.
        signal_statuses: the status of their streams, which has to be written; None likewise.
        certificates: the files of certificates in use, whose ends have to be logged.
        metrics: counts.
        tracing: makes spans.
        stopping: set once the service is to end its streams and watches.
        clock: seconds since the epoch.
    """

    verifier: JwtVerifier
    issuers: IssuerWatch
    store: SessionStore
    usages: Usages
    resolver: SessionResolver
    admin: SessionAdmin
    call_audit: CallAudit
    session_audit: SessionAudit
    assertions: Assertions | None
    signals: SignalProcessor | None
    signal_statuses: SignalStatuses | None
    certificates: CertificateFiles
    metrics: Metrics
    tracing: Tracing
    stopping: asyncio.Event
    clock: Clock


@asynccontextmanager
async def assembled(
    settings: Settings, clock: Clock, monotonic: Clock = time.monotonic
) -> AsyncIterator[Service]:
    """The configured service. Everything that it opens is closed at the end of the block.

    Args:
        settings: of authsvc.
        clock: seconds since the epoch.
        monotonic: seconds of any origin, for the limits of subjects and clients, and for the log.

    Raises:
        ConfigError: a file, URL or address of the settings cannot be used.
    """
    issuers = tuple(map(issuer_of, settings.issuers))
    verifier = _jwt_verifier(settings, issuers)
    issuer_watch = _issuer_watch(settings, issuers)
    metrics, stopping = metrics_of(settings), asyncio.Event()
    certificates = CertificateFiles(certificate_files(settings), clock)
    metrics.certificates = certificates.validities
    usages = _usages(settings, clock)
    metrics.clocks = ClockOffsets(monotonic)
    rates = metrics.call_rates = CallRates(settings.limits.service_rates(), monotonic)
    async with AsyncExitStack() as closing:
        traces = await closing.enter_async_context(tracing(settings.tracing, "authsvc"))
        closing.enter_context(_security_file(settings, metrics))
        closing.enter_context(security.also_given_to(metrics.security))
        sessions = closing.enter_context(_session_audit(settings, clock))
        store = await closing.enter_async_context(_store(settings, metrics, traces, sessions))
        call_audit = await closing.enter_async_context(_call_audit(settings, metrics))
        listen = settings.metrics.listen if settings.metrics is not None else None
        collector = ServiceCollector(metrics, clock)
        await closing.enter_async_context(metrics_exposed(collector, listen))
        resolver = SessionResolver(
            _verifier(verifier, settings, metrics, traces),
            store,
            await closing.enter_async_context(_broker(settings, metrics, traces)),
            limits=settings.session_limits(),
            usages=usages,
            clock=clock,
            max_cached_responses=settings.cached_tokens,
            rates=rates,
            sessions=sessions,
        )
        metrics.cached_responses = lambda: resolver.cached_responses
        statuses = await closing.enter_async_context(_signal_statuses(settings, store, clock))
        admin = _admin(store, resolver, issuer_watch, statuses, stopping, clock, monotonic)
        closing.callback(admin.actions.close)
        assertions = metrics.assertions = await closing.enter_async_context(
            open_assertions(settings, store, clock)
        )
        yield Service(
            verifier=verifier,
            issuers=issuer_watch,
            store=store,
            usages=usages,
            resolver=resolver,
            admin=admin,
            call_audit=call_audit,
            session_audit=sessions,
            assertions=assertions,
            signals=_signals(settings, issuers, admin, store, metrics, statuses, clock),
            signal_statuses=statuses,
            certificates=certificates,
            metrics=metrics,
            tracing=traces,
            stopping=stopping,
            clock=clock,
        )


def _jwt_verifier(settings: Settings, issuers: tuple[Issuer, ...]) -> JwtVerifier:
    return JwtVerifier(
        issuers,
        max_token_bytes=settings.max_token_bytes,
        cache_size=settings.cached_tokens,
        introspected=settings.introspection.issuer if settings.introspection else "",
    )


def _admin(
    store: SessionStore,
    resolver: SessionResolver,
    issuers: IssuerWatch,
    statuses: SignalStatuses | None,
    stopping: asyncio.Event,
    clock: Clock,
    monotonic: Clock,
) -> SessionAdmin:
    return SessionAdmin(
        store,
        end_session=resolver.revoke,
        issuers=issuers.status,
        stopping=stopping,
        signal_streams=no_streams if statuses is None else statuses.read,
        clock=clock,
        monotonic=monotonic,
    )


def _issuer_watch(settings: Settings, issuers: tuple[Issuer, ...]) -> IssuerWatch:
    return IssuerWatch(
        (
            WatchedIssuer(issuer.issuer, item.key_setting, issuer.keys)
            for item, issuer in zip(settings.issuers, issuers, strict=True)
        ),
        settings.introspection.issuer if settings.introspection else "",
    )


def _signals(
    settings: Settings,
    issuers: tuple[Issuer, ...],
    admin: SessionAdmin,
    store: SessionStore,
    metrics: Metrics,
    statuses: SignalStatuses | None,
    clock: Clock,
) -> SignalProcessor | None:
    if settings.signals is None or statuses is None:
        return None
    metrics.signals = counts_of(settings.signals, clock)
    metrics.signals.streams = lambda: statuses.known
    return processor_of(
        settings.signals,
        issuers,
        revocations=admin.revocations,
        store=store,
        observers=(metrics.signals, statuses),
        clock=clock,
    )


@asynccontextmanager
async def _signal_statuses(
    settings: Settings, store: SessionStore, clock: Clock
) -> AsyncIterator[SignalStatuses | None]:
    """The status of the streams, where ``[signals]`` is set; at the end, what is new is written."""
    statuses = None if settings.signals is None else statuses_of(settings.signals, store, clock)
    try:
        yield statuses
    finally:
        if statuses is not None:
            await statuses.write()


def _usages(settings: Settings, clock: Clock) -> Usages:
    return Usages(
        settings.limits.caller_limits(),
        clock,
        total=settings.limits.max_concurrent_calls,
        callers=len(settings.callers),
    )


def _verifier(
    jwt: JwtVerifier, settings: Settings, metrics: Metrics, traces: Tracing
) -> TokenVerifier:
    observer = traces.observed("token", metrics.tokens.timed)
    return ObservedVerifier(with_introspection(jwt, settings), observer)


@asynccontextmanager
async def _store(
    settings: Settings, metrics: Metrics, traces: Tracing, sessions: SessionAudit
) -> AsyncIterator[SessionStore]:
    observer = traces.observed("store", metrics.store.timed)
    opened = await open_store(settings, sessions.ended)
    store = ObservedStore(opened, observer, metrics.store_writes)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def _security_file(settings: Settings, metrics: Metrics) -> Iterator[None]:
    path = settings.audit_file
    if path is None:
        yield
        return
    with ExitStack() as closing:
        try:
            file = closing.enter_context(appending_to_file(path, settings.audit.format))
        except OSError as error:
            raise ConfigError(f"audit_file: {file_fault(path, error)}") from None
        metrics.audited_events = file.counts
        yield


@contextmanager
def _session_audit(settings: Settings, clock: Clock) -> Iterator[SessionAudit]:
    audit = SessionAudit(settings.session_limits(), enabled=settings.audit.sessions, clock=clock)
    try:
        yield audit
    finally:
        audit.close()


@asynccontextmanager
async def _call_audit(settings: Settings, metrics: Metrics) -> AsyncIterator[CallAudit]:
    audit = settings.audit.opened(settings.audit_file, "audit_file")
    metrics.audited_calls = audit.counts
    try:
        yield audit
    finally:
        await asyncio.to_thread(audit.close)


@asynccontextmanager
async def _broker(
    settings: Settings, metrics: Metrics, traces: Tracing
) -> AsyncIterator[CredentialBroker]:
    """The broker; without ``[credentials]``, one that has none, and no name."""
    async with open_broker(settings, metrics.issuing_of) as broker:
        if broker is None:
            yield CredentialRouter(())
            return

        def observer(label: str) -> OperationObserver:
            return traces.observed("broker", lambda _: metrics.credentials.timed(label))

        names = {"", *settings.credentials.names}
        observers = {name: observer(credential_label(name)) for name in names}
        yield ObservedBroker(broker, observers, observer(UNKNOWN_NAME))
