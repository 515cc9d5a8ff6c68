"""Rates of events as bar charts: numbers that a template draws as SVG."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.console.feed import Feed
from authsvc.domain.events import EventType

WIDTH, HEIGHT = 600.0, 64.0
"""Of a chart, in units of its SVG view box."""

GAP = 1.5
BARS = 60

WINDOWS = {"15m": ("15 minutes", 15), "1h": ("1 hour", 60), "6h": ("6 hours", 360)}
"""Time windows by name: the label, and the seconds of one bar."""

_KINDS = (
    ("Sessions created", "created", frozenset({EventType.CREATED})),
    ("Re-authenticated", "renewed", frozenset({EventType.REAUTHENTICATED})),
    ("Revocations", "revoked", frozenset({EventType.REVOKED, EventType.TOKENS_REVOKED})),
    ("Expired", "expired", frozenset({EventType.EXPIRED})),
    ("Subject mismatches", "rejected", frozenset({EventType.SUBJECT_MISMATCH})),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, in units of the SVG view box."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Plot:
    """The rate of one kind of event.

    Attributes:
        title: what is counted.
        kind: its class in the style sheet.
        bars: the bars that are not empty.
        unknown_width: width of the part before the console watched, in units of the view box.
        total: events in all bars.
        peak: events in the highest bar.
        bar_seconds: length of the time of one bar.
    """

    title: str
    kind: str
    bars: tuple[Bar, ...]
    unknown_width: float
    total: int
    peak: int
    bar_seconds: int


def plots(feed: Feed, window: str, now: float) -> list[Plot]:
    """The rates over one of ``WINDOWS``, all on one scale.

    Args:
        feed: has counted the events.
        window: a key of ``WINDOWS``.
        now: seconds since the epoch.
    """
    bar_seconds = WINDOWS[window][1]
    counted = [
        (title, kind, feed.counts.bars(types, now=now, bar_seconds=bar_seconds, count=BARS))
        for title, kind, types in _KINDS
    ]
    scale = max(1, *(max(counts) for _, _, counts in counted))
    unknown = _unknown_width(feed.since, now, bar_seconds)
    return [
        Plot(title, kind, _bars(counts, scale), unknown, sum(counts), max(counts), bar_seconds)
        for title, kind, counts in counted
    ]


def _bars(counts: list[int], scale: int) -> tuple[Bar, ...]:
    step = WIDTH / len(counts)
    heights = ((index, HEIGHT * count / scale) for index, count in enumerate(counts) if count)
    return tuple(
        Bar(round(index * step, 1), round(HEIGHT - height, 1), step - GAP, round(height, 1))
        for index, height in heights
    )


def _unknown_width(since: float | None, now: float, bar_seconds: int) -> float:
    if since is None:
        return WIDTH
    begin = (now // bar_seconds - BARS + 1) * bar_seconds
    part = (since - begin) / (BARS * bar_seconds)
    return round(WIDTH * min(1.0, max(0.0, part)), 1)
