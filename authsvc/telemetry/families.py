"""From counts to Prometheus's metric families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import add
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from authsvc.net.validity import Validity
from authsvc.telemetry.counts import BOUNDS_SECONDS, Histogram, Operations

KeyT = TypeVar("KeyT")


def registry_of(collector: Collector) -> CollectorRegistry:
    """A new registry with a collector, and with the metrics of the process and the interpreter."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(collector)
    return registry


def items(counts: Mapping[KeyT, int]) -> list[tuple[KeyT, int]]:
    """A copy of the counts: the event loop may change them during a scrape."""
    return list(counts.items())


def add_histogram(
    family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram
) -> None:
    """Add one histogram to its family, with cumulative buckets as Prometheus requires."""
    cumulative, so_far = [], 0
    bounds = (*map(str, BOUNDS_SECONDS), "+Inf")
    for bound, count in zip(bounds, tuple(histogram.buckets), strict=True):
        so_far += count
        cumulative.append((bound, float(so_far)))
    family.add_metric(labels, cumulative, sum_value=histogram.total)


def durations_by_operation(
    name: str, documentation: str, operations: Operations, label: str = "operation"
) -> HistogramMetricFamily:
    """A histogram for each operation, which is the value of a label."""
    family = HistogramMetricFamily(name, documentation, labels=(label,))
    for operation, histogram in list(operations.seconds.items()):
        add_histogram(family, (operation,), histogram)
    return family


def durations(name: str, documentation: str, operations: Operations) -> HistogramMetricFamily:
    """One histogram of all operations."""
    family = HistogramMetricFamily(name, documentation)
    whole = Histogram()
    for histogram in list(operations.seconds.values()):
        whole.buckets = [*map(add, whole.buckets, histogram.buckets)]
        whole.total += histogram.total
    add_histogram(family, (), whole)
    return family


def failures(name: str, documentation: str, operations: Operations) -> CounterMetricFamily:
    """Counters of failures by operation and reason."""
    family = CounterMetricFamily(name, documentation, labels=("operation", "reason"))
    for (operation, result), count in items(operations.results):
        if result != "ok":
            family.add_metric((operation, result), count)
    return family


def results(name: str, documentation: str, operations: Operations) -> CounterMetricFamily:
    """Counters by result, of all operations."""
    family = CounterMetricFamily(name, documentation, labels=("result",))
    for (_, result), count in items(operations.results):
        family.add_metric((result,), count)
    return family


def results_by_operation(
    name: str, documentation: str, operations: Operations, label: str
) -> CounterMetricFamily:
    """Counters by result and operation, which is the value of a label."""
    family = CounterMetricFamily(name, documentation, labels=("result", label))
    for (operation, result), count in items(operations.results):
        family.add_metric((result, operation), count)
    return family


def audited_calls(name: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    """A counter of call events by result."""
    family = CounterMetricFamily(
        name,
        "Call events: written, dropped for want of room, or failed to be written.",
        labels=("result",),
    )
    for result, count in items(counts):
        family.add_metric((result,), count)
    return family


def certificates(expire: str, issue: str, validities: Mapping[str, Validity]) -> Iterator[Metric]:
    """When each certificate ends, and when it began, by the setting of its file.

    Args:
        expire: the name of the first family.
        issue: of the second.
        validities: by setting.
    """
    ends = GaugeMetricFamily(
        expire,
        "When the first certificate of a file in use expires; 0 for a file that is unusable.",
        labels=("setting",),
    )
    begins = GaugeMetricFamily(
        issue,
        "From when on that certificate is valid.",
        labels=("setting",),
    )
    for setting, validity in validities.items():
        ends.add_metric((setting,), validity.ends)
        if validity.begins is not None:
            begins.add_metric((setting,), validity.begins)
    yield from (ends, begins)
