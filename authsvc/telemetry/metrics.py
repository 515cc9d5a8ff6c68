"""The metrics of one authsvc process, and their collector for Prometheus."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from authsvc import __version__
from authsvc.access.rates import CallRates
from authsvc.assertions.signer import Assertions
from authsvc.credentials.cache import CacheCounts
from authsvc.domain.service_status import IssuerState, IssuerStatus, SessionCounts, StoreSpace
from authsvc.net.validity import Validity
from authsvc.stores.writes import WriteState
from authsvc.telemetry.clocks import ClockOffsets
from authsvc.telemetry.counts import Checks, Operations, Resolves
from authsvc.telemetry.families import (
    add_histogram,
    audited_calls,
    certificates,
    durations,
    durations_by_operation,
    failures,
    items,
    results,
    results_by_operation,
)
from authsvc.telemetry.security import SecurityEvents
from authsvc.telemetry.signals import SignalCounts, signal_families


@dataclass
class Metrics:
    """The metrics of one service.

    Attributes:
        unary: resolves by ``ResolveSession``.
        stream: resolves by ``ResolveSessionStream``.
        create: resolves by ``CreateSession``.
        checks: checks of gateways.
        store: operations of the session store.
        store_writes: whether the store takes writes.
        tokens: full verifications of tokens.
        credentials: requests to the credential broker, by ``credential_label``.
        issuing: lookups in the brokers' caches, and their calls, by the name of the credentials:
            those of the configuration, and the empty one.
        security: security events that were logged.
        audited_events: number of security events by result, of the file; empty without one.
        audited_calls: number of call events by result; empty until the audit is open.
        call_rates: count the requests beyond a limit of a subject or client.
        clocks: how far the clocks of the store and of the issuers are from ours.
        ready: whether health is reported as SERVING.
        issuers: the state of each issuer at the last refresh.
        cached_responses: gives the number of responses in the cache.
        assertions: have counts of their own; None where they are not configured.
        signals: signals and polls; None where they are not configured.
        sessions: number of sessions by state; None until they have been counted.
        store_space: the space of the store; None where it has none, or it could not be read.
        renewed_files: read the validity of the files that authsvc authenticates by elsewhere, by
            the setting of the file. None of them raises.
        certificates: gives the validity of each file of certificates in use, by its setting.
    """

    unary: Resolves = field(default_factory=Resolves)
    stream: Resolves = field(default_factory=Resolves)
    create: Resolves = field(default_factory=Resolves)
    checks: Checks = field(default_factory=Checks)
    store: Operations = field(default_factory=Operations)
    store_writes: WriteState = field(default_factory=WriteState)
    tokens: Operations = field(default_factory=Operations)
    credentials: Operations = field(default_factory=Operations)
    issuing: dict[str, CacheCounts] = field(default_factory=lambda: {"": CacheCounts()})
    security: SecurityEvents = field(default_factory=SecurityEvents)
    audited_events: Counter[str] = field(default_factory=Counter)
    audited_calls: Counter[str] = field(default_factory=Counter)
    call_rates: CallRates = field(default_factory=CallRates)
    clocks: ClockOffsets = field(default_factory=ClockOffsets)
    ready: bool = False
    issuers: tuple[IssuerStatus, ...] = ()
    cached_responses: Callable[[], int] = int
    assertions: Assertions | None = None
    signals: SignalCounts | None = None
    sessions: SessionCounts | None = None
    store_space: StoreSpace | None = None
    renewed_files: Mapping[str, Callable[[], Validity | None]] = field(default_factory=dict)
    certificates: Callable[[], Mapping[str, Validity]] = dict

    def issuing_of(self, name: str) -> CacheCounts:
        """What counts for credentials of a name of the configuration."""
        return self.issuing.setdefault(name, CacheCounts(name))


UNKNOWN_NAME = "unknown"
"""The label of credentials that are asked for by a name that no table has."""


def credential_label(name: str) -> str:
    """The value of the label ``name`` for credentials: a name of the configuration, or
    ``default``."""
    return name or "default"


class ServiceCollector(Collector):
    """Turns the metrics into Prometheus's families at each scrape.

    Args:
        metrics: of the service.
        clock: seconds since the epoch.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        yield InfoMetricFamily("authsvc_build", "What runs.", value={"version": __version__})
        yield from self._resolves()
        yield from self._operations()
        yield from self._credentials()
        yield from self._issuers()
        yield from _validities(self._metrics.renewed_files)
        yield from certificates(
            "authsvc_certificate_expire_timestamp_seconds",
            "authsvc_certificate_issue_timestamp_seconds",
            self._metrics.certificates(),
        )
        if self._metrics.assertions is not None:
            yield from _assertions(self._metrics.assertions)
        if self._metrics.signals is not None:
            yield from signal_families(self._metrics.signals)
        security = CounterMetricFamily(
            "authsvc_security_events",
            "Security events that were logged; docs/audit.md lists them.",
            labels=("event", "reason", "caller"),
        )
        for labels, count in items(self._metrics.security.counts):
            security.add_metric(labels, count)
        yield security
        audited = CounterMetricFamily(
            "authsvc_audit_events",
            "Security events by what became of them in audit_file: written or failed.",
            labels=("result",),
        )
        for result, count in items(self._metrics.audited_events):
            audited.add_metric((result,), count)
        yield audited
        yield audited_calls("authsvc_audit_calls", self._metrics.audited_calls)
        limited = CounterMetricFamily(
            "authsvc_rate_limited",
            "Requests beyond a limit by subject, by client or for everyone, by the limit's name.",
            labels=("limit",),
        )
        for name, count in items(self._metrics.call_rates.rejected):
            limited.add_metric((name,), count)
        yield limited
        ready = GaugeMetricFamily(
            "authsvc_ready", "1 while the store and keys of every issuer are available."
        )
        ready.add_metric((), float(self._metrics.ready))
        yield ready
        yield _clocks(self._metrics.clocks)
        if (counts := self._metrics.sessions) is not None:
            yield from _sessions(counts)
        if (space := self._metrics.store_space) is not None:
            yield from _space(space)

    def _resolves(self) -> Iterator[Metric]:
        metrics = self._metrics
        resolves = CounterMetricFamily(
            "authsvc_resolves", "Resolves by result.", labels=("result", "via")
        )
        cached = CounterMetricFamily(
            "authsvc_resolves_cached", "Resolves answered from the cache.", labels=("via",)
        )
        in_flight = GaugeMetricFamily(
            "authsvc_resolves_in_flight", "Resolves being decided.", labels=("via",)
        )
        seconds = HistogramMetricFamily(
            "authsvc_resolve_duration_seconds",
            "Latency of decisions. Cached responses are not timed.",
            labels=("via",),
        )
        rpcs = {
            "unary": metrics.unary,
            "stream": metrics.stream,
            "create": metrics.create,
            "check": metrics.checks.resolves,
        }
        for via, counts in rpcs.items():
            by_result = Counter(dict(items(counts.results)))
            by_result["reused"] += counts.cached
            for result, count in by_result.items():
                resolves.add_metric((result, via), count)
            cached.add_metric((via,), counts.cached)
            in_flight.add_metric((via,), counts.in_flight)
            add_histogram(seconds, (via,), counts.seconds)
        cached_responses = GaugeMetricFamily("authsvc_cached_responses", "Responses in the cache.")
        cached_responses.add_metric((), metrics.cached_responses())
        yield from (resolves, cached, in_flight, seconds, cached_responses)
        checks = CounterMetricFamily(
            "authsvc_checks",
            "Checks of gateways by answer: allowed, or the HTTP status of a denial.",
            labels=("answer",),
        )
        for answer, count in items(metrics.checks.answers):
            checks.add_metric((answer,), count)
        yield checks

    def _operations(self) -> Iterator[Metric]:
        store = self._metrics.store
        yield durations_by_operation(
            "authsvc_store_operation_duration_seconds",
            "Latency of the session store, failures included.",
            store,
        )
        yield failures(
            "authsvc_store_operation_failures", "Failed operations of the session store.", store
        )
        writes = GaugeMetricFamily(
            "authsvc_store_writes", "1 if the last write to the session store worked, 0 if not."
        )
        writes.add_metric((), float(self._metrics.store_writes.work))
        yield writes
        tokens = self._metrics.tokens
        yield results(
            "authsvc_token_checks",
            "Tokens verified in full, by result.",
            tokens,
        )
        yield durations(
            "authsvc_token_check_duration_seconds",
            "Latency of verifying a token in full.",
            tokens,
        )

    def _credentials(self) -> Iterator[Metric]:
        yield results_by_operation(
            "authsvc_credentials_requests",
            "Requests for credentials, by result and by their name.",
            self._metrics.credentials,
            "name",
        )
        yield durations_by_operation(
            "authsvc_credentials_duration_seconds",
            "Latency of requests for credentials, cached ones included.",
            self._metrics.credentials,
            "name",
        )
        cache = CounterMetricFamily(
            "authsvc_credentials_cache",
            "Lookups in the cache of credentials: hit, miss, or failure, a cached one.",
            labels=("result", "name"),
        )
        issued = CounterMetricFamily(
            "authsvc_credentials_issued", "Credentials that were issued.", labels=("name",)
        )
        failed = CounterMetricFamily(
            "authsvc_credentials_failures",
            "Failed calls to the services that issue credentials.",
            labels=("reason", "name"),
        )
        for issuing in list(self._metrics.issuing.values()):
            label = credential_label(issuing.name)
            cache.add_metric(("hit", label), issuing.hits)
            cache.add_metric(("miss", label), issuing.misses)
            cache.add_metric(("failure", label), issuing.cached_failures)
            issued.add_metric((label,), issuing.issued)
            for reason, count in items(issuing.failed):
                failed.add_metric((reason, label), count)
        yield from (cache, issued, failed)

    def _issuers(self) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "authsvc_signing_keys_age_seconds",
            "Age of an issuer's keys in use.",
            labels=("issuer",),
        )
        count = GaugeMetricFamily(
            "authsvc_signing_keys",
            "Keys of an issuer, previous ones among them.",
            labels=("issuer",),
        )
        skipped = GaugeMetricFamily(
            "authsvc_signing_keys_skipped",
            "Entries of an issuer's JWK Set that are broken, weak, private or ambiguous.",
            labels=("issuer",),
        )
        state = GaugeMetricFamily(
            "authsvc_issuer_state",
            "1 for the state of an issuer.",
            labels=("issuer", "state"),
        )
        now = self._clock()
        for issuer in self._metrics.issuers:
            if issuer.fetch_time is not None:
                age.add_metric((issuer.issuer,), max(0.0, now - issuer.fetch_time))
            count.add_metric((issuer.issuer,), len(issuer.keys))
            skipped.add_metric((issuer.issuer,), sum(it.is_invalid for it in issuer.skipped_keys))
            for each in IssuerState:
                labels = (issuer.issuer, each.name.lower())
                state.add_metric(labels, float(each is issuer.state))
        yield from (age, count, skipped, state)


def _validities(files: Mapping[str, Callable[[], Validity | None]]) -> Iterator[Metric]:
    ends = GaugeMetricFamily(
        "authsvc_client_credential_expire_timestamp_seconds",
        "When a file that authsvc authenticates by elsewhere expires; 0 for one that is unusable.",
        labels=("setting",),
    )
    begins = GaugeMetricFamily(
        "authsvc_client_credential_issue_timestamp_seconds",
        "When what is in such a file was issued.",
        labels=("setting",),
    )
    for setting, read in files.items():
        if (validity := read()) is None:
            continue
        ends.add_metric((setting,), validity.ends)
        if validity.begins is not None:
            begins.add_metric((setting,), validity.begins)
    yield from (ends, begins)


def _clocks(clocks: ClockOffsets) -> Metric:
    offsets = GaugeMetricFamily(
        "authsvc_clock_offset_seconds",
        "The clock of the store or of an issuer, minus this machine's.",
        labels=("peer",),
    )
    for peer, seconds in clocks.seconds.items():
        offsets.add_metric((peer,), seconds)
    return offsets


def _assertions(assertions: Assertions) -> Iterator[Metric]:
    made = CounterMetricFamily("authsvc_assertions", "Assertions by result.", labels=("result",))
    made.add_metric(("signed",), assertions.counts.signed)
    made.add_metric(("cached",), assertions.counts.cached)
    read = GaugeMetricFamily(
        "authsvc_assertion_keys_age_seconds",
        "Time since the keys of assertions were read from the store.",
    )
    signing = GaugeMetricFamily(
        "authsvc_assertion_signing_key_age_seconds",
        "Time since the key that signs assertions began to.",
    )
    ages = assertions.keys.ages()
    read.add_metric((), math.inf if ages is None else max(0.0, ages[0]))
    if ages is not None:
        signing.add_metric((), max(0.0, ages[1]))
    yield from (made, read, signing)


def _sessions(counts: SessionCounts) -> Iterator[Metric]:
    sessions = GaugeMetricFamily(
        "authsvc_sessions", "Sessions in the store, without expired ones.", labels=("state",)
    )
    for state in ("authenticated", "unauthenticated", "revoked"):
        sessions.add_metric((state,), getattr(counts, state))
    yield sessions


def _space(space: StoreSpace) -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "authsvc_store_space_used_bytes",
        "Space in use where the store writes: its file system, or its server's memory.",
        labels=("kind",),
    )
    used.add_metric((space.kind,), space.used_bytes)
    yield used
    limit = GaugeMetricFamily(
        "authsvc_store_space_limit_bytes",
        "Size of that file system, or maxmemory of the server.",
        labels=("kind",),
    )
    if space.limit_bytes is not None:
        limit.add_metric((space.kind,), space.limit_bytes)
    persistence = GaugeMetricFamily(
        "authsvc_store_persistence_ok",
        "1 if the last writes of the store's server to its disk worked, 0 if not.",
    )
    if space.persistence_ok is not None:
        persistence.add_metric((), float(space.persistence_ok))
    yield from (limit, persistence)
