"""Counts of the signals of identity providers, and their families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from authsvc.domain.errors import AuthError
from authsvc.domain.signal_status import StreamState, StreamStatus
from authsvc.signals.errors import SignalError
from authsvc.signals.event_types import STREAM_UPDATED, USER_EVENTS
from authsvc.signals.observing import Effect, SignalResult
from authsvc.signals.signals import Signal, SignalToken
from authsvc.telemetry.counts import Histogram
from authsvc.telemetry.families import add_histogram, items

OK, FAILED = "ok", "failed"
"""Results of polls."""


class SignalCounts:
    """Counts signals and polls: a ``SignalObserver`` and a ``PollObserver``.

    Those that alerts look for begin at 0, as of ``Resolves``.

    Args:
        issuers: of the streams.
        polled: of the streams that are polled.
        clock: seconds since the epoch.

    Attributes:
        results: number of events by issuer, short name and result. A token that is rejected, or
            could not be processed, has no name, and the issuer that it claims.
        seconds: from the receipt of what revokes to its durable effect.
        last_times: when an issuer's newest valid signal was received, in seconds since the epoch.
        polls: number of polls by issuer and result.
        streams: returns the status of each stream, by all replicas.
    """

    def __init__(
        self, issuers: Iterable[str], polled: Iterable[str], clock: Callable[[], float]
    ) -> None:
        issuers = tuple(issuers)
        self._clock = clock
        unknown = ((it, SignalResult.UNKNOWN_SUBJECT.value) for it in USER_EVENTS.values())
        begun = [*unknown, (STREAM_UPDATED, SignalResult.NONE.value)]
        begun += [("", it.value) for it in (SignalResult.REJECTED, SignalResult.UNAVAILABLE)]
        self.results: Counter[tuple[str, str, str]] = Counter(
            {(issuer, *labels): 0 for issuer in issuers for labels in begun}
        )
        self.results["", "", SignalResult.REJECTED.value] = 0
        self.seconds = Histogram()
        self.last_times: dict[str, float] = {}
        self.polls: Counter[tuple[str, str]] = Counter(
            {(issuer, result): 0 for issuer in polled for result in (OK, FAILED)}
        )
        self.streams: Callable[[], Iterable[StreamStatus]] = tuple

    def received(self, token: SignalToken, signal: Signal, effect: Effect) -> None:
        """See ``SignalObserver``."""
        issuer = token.stream.issuer
        self.results[issuer, signal.name, effect.result.value] += 1
        self.last_times[issuer] = self._clock()
        if effect.result is SignalResult.REVOKED:
            self.seconds.observe(effect.seconds)

    def rejected(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """See ``SignalObserver``."""
        self.results[issuer, "", SignalResult.REJECTED.value] += 1

    def unavailable(self, issuer: str, error: AuthError) -> None:
        """See ``SignalObserver``."""
        self.results[issuer, "", SignalResult.UNAVAILABLE.value] += 1

    def polled(self, issuer: str, failure: str) -> None:
        """See ``PollObserver``."""
        self.polls[issuer, FAILED if failure else OK] += 1


def signal_families(counts: SignalCounts) -> Iterator[Metric]:
    """The families of the counts."""
    signals = CounterMetricFamily(
        "authsvc_signals",
        "Signals of identity providers by event and result.",
        labels=("issuer", "event", "result"),
    )
    for labels, count in items(counts.results):
        signals.add_metric(labels, count)
    seconds = HistogramMetricFamily(
        "authsvc_signal_seconds", "From the receipt of a signal that revokes to its durable effect."
    )
    add_histogram(seconds, (), counts.seconds)
    last = GaugeMetricFamily(
        "authsvc_signal_last_time_seconds",
        "When the newest valid signal was received, since the epoch.",
        labels=("issuer",),
    )
    for issuer, time in list(counts.last_times.items()):
        last.add_metric((issuer,), time)
    polls = CounterMetricFamily(
        "authsvc_signal_polls", "Polls of transmitters by result.", labels=("issuer", "result")
    )
    for names, count in items(counts.polls):
        polls.add_metric(names, count)
    yield from (signals, seconds, last, polls)
    yield from _stream_families(counts.streams())


def _stream_families(streams: Iterable[StreamStatus]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "authsvc_signal_stream_state",
        "1 for the state of a stream, as its transmitter has reported it.",
        labels=("issuer", "state"),
    )
    poll = GaugeMetricFamily(
        "authsvc_signal_last_poll_time_seconds",
        "When the newest poll of any replica succeeded, since the epoch; 0 for never.",
        labels=("issuer",),
    )
    for stream in streams:
        for each in StreamState:
            state.add_metric((stream.issuer, each.name.lower()), float(each is stream.state))
        if stream.is_polled:
            poll.add_metric((stream.issuer,), stream.last_poll_time or 0.0)
    yield from (state, poll)
