"""Counts as Prometheus's families, whatever is counted."""

from __future__ import annotations

from collections.abc import Mapping
from operator import add
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from authsvc.telemetry.counts import BOUNDS_SECONDS, Histogram, Operations

KeyT = TypeVar("KeyT")


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry of its own, with the process's and the interpreter's metrics besides."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(collector)
    return registry


def items(counts: Mapping[KeyT, int]) -> list[tuple[KeyT, int]]:
    """What is counted, at one moment, though the event loop goes on counting."""
    return list(counts.items())


def add_histogram(
    family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram
) -> None:
    """Add one histogram to its family, its buckets cumulative as Prometheus has them."""
    cumulative, so_far = [], 0
    bounds = (*map(str, BOUNDS_SECONDS), "+Inf")
    for bound, count in zip(bounds, tuple(histogram.buckets), strict=True):
        so_far += count
        cumulative.append((bound, float(so_far)))
    family.add_metric(labels, cumulative, sum_value=histogram.total)


def operations_seconds(
    name: str, documentation: str, operations: Operations
) -> HistogramMetricFamily:
    """How long each operation took."""
    family = HistogramMetricFamily(name, documentation, labels=("operation",))
    for operation, histogram in list(operations.seconds.items()):
        add_histogram(family, (operation,), histogram)
    return family


def seconds_of(name: str, documentation: str, operations: Operations) -> HistogramMetricFamily:
    """How long they took, whatever the operation."""
    family = HistogramMetricFamily(name, documentation)
    whole = Histogram()
    for histogram in list(operations.seconds.values()):
        whole.buckets = [*map(add, whole.buckets, histogram.buckets)]
        whole.total += histogram.total
    add_histogram(family, (), whole)
    return family


def results_of(name: str, documentation: str, operations: Operations) -> CounterMetricFamily:
    """How often there was which result, whatever the operation."""
    family = CounterMetricFamily(name, documentation, labels=("result",))
    for (_, result), count in items(operations.results):
        family.add_metric((result,), count)
    return family
