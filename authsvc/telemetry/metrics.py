"""All counts of one service, and how Prometheus sees them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from authsvc.credentials.cache import CacheCounts
from authsvc.domain.service_status import IssuerState, IssuerStatus, SessionCounts
from authsvc.telemetry.counts import Operations, Resolves
from authsvc.telemetry.families import (
    add_histogram,
    items,
    operations_seconds,
    results_of,
    seconds_of,
)
from authsvc.telemetry.security import SecurityEvents


@dataclass
class Metrics:
    """What one service counts.

    Attributes:
        unary: resolves by ``ResolveSession``.
        stream: by ``ResolveSessionStream``.
        create: by ``CreateSession``.
        store: operations of the session store.
        tokens: checks of tokens in full, by the verifier.
        credentials: what the broker was asked for, and what became of it.
        issuing: what the brokers' caches did with it.
        security: security events that were written down.
        ready: whether the service says that it serves.
        issuers: how each issuer was when it was looked at last.
        cached_responses: how many answers are kept to be given again.
        sessions: how many there are; None until they have been counted.
    """

    unary: Resolves = field(default_factory=Resolves)
    stream: Resolves = field(default_factory=Resolves)
    create: Resolves = field(default_factory=Resolves)
    store: Operations = field(default_factory=Operations)
    tokens: Operations = field(default_factory=Operations)
    credentials: Operations = field(default_factory=Operations)
    issuing: CacheCounts = field(default_factory=CacheCounts)
    security: SecurityEvents = field(default_factory=SecurityEvents)
    ready: bool = False
    issuers: tuple[IssuerStatus, ...] = ()
    cached_responses: Callable[[], int] = int
    sessions: SessionCounts | None = None


class ServiceCollector(Collector):
    """Turns counts into Prometheus's families, at each scrape.

    Args:
        metrics: the counts.
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
        security = CounterMetricFamily(
            "authsvc_security_events",
            "Security events that were written down, as docs/audit.md has them.",
            labels=("event", "reason", "caller"),
        )
        for labels, count in items(self._metrics.security.counts):
            security.add_metric(labels, count)
        yield security
        ready = GaugeMetricFamily("authsvc_ready", "1 while it says that it serves.")
        ready.add_metric((), float(self._metrics.ready))
        yield ready
        if (counts := self._metrics.sessions) is not None:
            yield from _sessions(counts)

    def _resolves(self) -> Iterator[Metric]:
        metrics = self._metrics
        results = CounterMetricFamily(
            "authsvc_resolves", "Resolves by what became of them.", labels=("result", "via")
        )
        cached = CounterMetricFamily(
            "authsvc_resolves_cached", "Resolves answered from memory.", labels=("via",)
        )
        in_flight = GaugeMetricFamily(
            "authsvc_resolves_in_flight", "Resolves being decided.", labels=("via",)
        )
        seconds = HistogramMetricFamily(
            "authsvc_resolve_duration_seconds",
            "How long deciding took; what is answered from memory is not timed.",
            labels=("via",),
        )
        ways = {"unary": metrics.unary, "stream": metrics.stream, "create": metrics.create}
        for via, resolves in ways.items():
            counted = Counter(dict(items(resolves.results)))
            counted["reused"] += resolves.cached
            for result, count in counted.items():
                results.add_metric((result, via), count)
            cached.add_metric((via,), resolves.cached)
            in_flight.add_metric((via,), resolves.in_flight)
            add_histogram(seconds, (via,), resolves.seconds)
        cached_responses = GaugeMetricFamily(
            "authsvc_cached_responses", "Answers kept in memory, to be given again."
        )
        cached_responses.add_metric((), metrics.cached_responses())
        yield from (results, cached, in_flight, seconds, cached_responses)

    def _operations(self) -> Iterator[Metric]:
        store = self._metrics.store
        yield operations_seconds(
            "authsvc_store_operation_duration_seconds",
            "How long the session store took, failures included.",
            store,
        )
        failures = CounterMetricFamily(
            "authsvc_store_operation_failures",
            "Operations of the session store that failed.",
            labels=("operation", "reason"),
        )
        for (operation, result), count in items(store.results):
            if result != "ok":
                failures.add_metric((operation, result), count)
        yield failures
        tokens = self._metrics.tokens
        yield results_of(
            "authsvc_token_checks",
            "Tokens checked in full, by whether they are good in themselves.",
            tokens,
        )
        yield seconds_of(
            "authsvc_token_check_duration_seconds",
            "How long checking a token in full took.",
            tokens,
        )

    def _credentials(self) -> Iterator[Metric]:
        issuing = self._metrics.issuing
        yield results_of(
            "authsvc_credentials_requests",
            "Times that credentials were asked for.",
            self._metrics.credentials,
        )
        yield seconds_of(
            "authsvc_credentials_duration_seconds",
            "How long it took until they were there, the cache's answers included.",
            self._metrics.credentials,
        )
        cache = CounterMetricFamily(
            "authsvc_credentials_cache",
            "What the cache of issued credentials did: hit, miss, or a failure that still counts.",
            labels=("result",),
        )
        cache.add_metric(("hit",), issuing.hits)
        cache.add_metric(("miss",), issuing.misses)
        cache.add_metric(("failure",), issuing.cached_failures)
        issued = CounterMetricFamily(
            "authsvc_credentials_issued", "Credentials that were issued and kept."
        )
        issued.add_metric((), issuing.issued)
        failed = CounterMetricFamily(
            "authsvc_credentials_failures",
            "Calls to who issues credentials that failed.",
            labels=("reason",),
        )
        for reason, count in items(issuing.failed):
            failed.add_metric((reason,), count)
        yield from (cache, issued, failed)

    def _issuers(self) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "authsvc_signing_keys_age_seconds",
            "Since when an issuer's keys are the ones in use.",
            labels=("issuer",),
        )
        count = GaugeMetricFamily(
            "authsvc_signing_keys",
            "Keys of an issuer, previous ones among them.",
            labels=("issuer",),
        )
        skipped = GaugeMetricFamily(
            "authsvc_signing_keys_skipped",
            "Entries of an issuer's JWK Set that cannot be used and should be looked at.",
            labels=("issuer",),
        )
        state = GaugeMetricFamily(
            "authsvc_issuer_state",
            "1 for the state that an issuer is in.",
            labels=("issuer", "state"),
        )
        now = self._clock()
        for issuer in self._metrics.issuers:
            if issuer.fetch_time is not None:
                age.add_metric((issuer.issuer,), max(0.0, now - issuer.fetch_time))
            count.add_metric((issuer.issuer,), len(issuer.keys))
            skipped.add_metric((issuer.issuer,), issuer.skipped_keys)
            for each in IssuerState:
                labels = (issuer.issuer, each.name.lower())
                state.add_metric(labels, float(each is issuer.state))
        yield from (age, count, skipped, state)


def _sessions(counts: SessionCounts) -> Iterator[Metric]:
    sessions = GaugeMetricFamily(
        "authsvc_sessions", "Live sessions in the store, the newest ones.", labels=("state",)
    )
    for state in ("authenticated", "unauthenticated", "revoked"):
        sessions.add_metric((state,), getattr(counts, state))
    yield sessions
    truncated = GaugeMetricFamily(
        "authsvc_sessions_truncated", "1 where there are older ones that were not counted."
    )
    truncated.add_metric((), float(counts.truncated))
    yield truncated
