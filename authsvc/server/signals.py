"""From ``[signals]`` to the processing of signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from authsvc.common.settings import ConfigError
from authsvc.resolver.fairness import PassLimiter
from authsvc.server.config import SignalSettings, SignalStreamSettings
from authsvc.server.issuers import public_keys
from authsvc.signals.actions import actions_of
from authsvc.signals.auditing import SignalAudit
from authsvc.signals.observing import SignalObserver
from authsvc.signals.processing import Revokes, SignalProcessor
from authsvc.signals.signals import Stream
from authsvc.signals.status import SignalStatuses
from authsvc.signals.verification import SignatureVerifier
from authsvc.stores.documents import DocumentStore
from authsvc.stores.received import ReceivedStore
from authsvc.telemetry.signals import SignalCounts
from authsvc.tokens.jwt import Issuer
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.sources import KeySource


def processor_of(
    table: SignalSettings,
    issuers: Iterable[Issuer],
    *,
    revocations: Revokes,
    store: ReceivedStore,
    observers: Iterable[SignalObserver],
    clock: Callable[[], float],
) -> SignalProcessor:
    """What receives the signals of all streams.

    Args:
        table: the settings.
        issuers: of ``[[issuers]]``.
        revocations: revokes tokens.
        store: keeps which signals have been received.
        observers: are called for each signal, after the audit.
        clock: seconds since the epoch.

    Raises:
        ConfigError: a file cannot be used.
    """
    return SignalProcessor(
        SignatureVerifier(streams_of(table, issuers), fairness=PassLimiter()),
        revocations=revocations,
        store=store,
        actions=actions_of(table.actions),
        observers=(SignalAudit(clock), *observers),
        clock=clock,
    )


def counts_of(table: SignalSettings, clock: Callable[[], float]) -> SignalCounts:
    """The metrics of the streams, nothing counted yet."""
    polled = (stream.issuer for stream in table.streams if stream.poll_url is not None)
    return SignalCounts((stream.issuer for stream in table.streams), polled, clock)


def statuses_of(
    table: SignalSettings, store: DocumentStore, clock: Callable[[], float]
) -> SignalStatuses:
    """The status of the streams, which all replicas share in the store."""
    streams = {stream.issuer: stream.poll_url is not None for stream in table.streams}
    return SignalStatuses(streams, store, clock)


def streams_of(table: SignalSettings, issuers: Iterable[Issuer]) -> tuple[Stream, ...]:
    """The streams as configured.

    Args:
        table: the settings.
        issuers: of ``[[issuers]]``.

    Raises:
        ConfigError: a file cannot be used.
    """
    by_name = {issuer.issuer: issuer for issuer in issuers}
    return tuple(_stream(stream, by_name) for stream in table.streams)


def own_keys(settings: SignalStreamSettings) -> KeySource | None:
    """Keys that a stream has beside those of ``[[issuers]]``; None where it has none.

    Raises:
        ConfigError: a file cannot be used.
    """
    if not settings.has_own_keys:
        return None
    try:
        return public_keys(settings, settings.table)
    except KeyLoadError as error:
        raise ConfigError(f"{settings.table}.{settings.key_setting}: {error}") from None


def _stream(settings: SignalStreamSettings, issuers: Mapping[str, Issuer]) -> Stream:
    own = own_keys(settings)
    return Stream(
        issuer=settings.issuer,
        keys=issuers[settings.issuer].keys if own is None else own,
        audiences=settings.audiences,
        applies_to=settings.applies_to or (settings.issuer,),
        accepted_types=settings.accepted_types,
        subject_formats=settings.subject_formats,
        leeway_seconds=settings.leeway_seconds,
        max_age_seconds=settings.max_age_seconds,
        keys_table="" if own is None else settings.table,
    )
