"""The console's feed of events, their counts, and the plots of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from authsvc.console.event_counts import KEPT_SECONDS, STEP_SECONDS, EventCounts
from authsvc.console.feed import Feed
from authsvc.console.plots import BARS, HEIGHT, WIDTH, WINDOWS, plots
from authsvc.domain.errors import Reason
from authsvc.domain.events import EventType
from authsvc.domain.provider_session import NO_PROVIDER_SESSION
from authsvc.server.running import running
from tests.support.clock import START, Clock
from tests.support.operators import WAIT_SECONDS, Site, clients, settings, write_tls
from tests.support.tokens import ISSUER, IdentityProvider

pytestmark = pytest.mark.anyio

CREATED = frozenset({EventType.CREATED})


def bars(counts: EventCounts, now: float, *, bar_seconds: int = 15, count: int = 4) -> list[int]:
    return counts.bars(CREATED, now=now, bar_seconds=bar_seconds, count=count)


def test_events_are_counted_step_by_step() -> None:
    counts = EventCounts()
    assert bars(counts, START) == [0, 0, 0, 0]
    for time in (START, START + 1, START + STEP_SECONDS, START + 3 * STEP_SECONDS):
        counts.add(EventType.CREATED, time, time)
    counts.add(EventType.EXPIRED, START, START)
    now = START + 3 * STEP_SECONDS
    assert bars(counts, now) == [2, 1, 0, 1]
    assert bars(counts, now + STEP_SECONDS) == [1, 0, 1, 0]
    assert bars(counts, now, bar_seconds=60, count=2) == [0, 4]
    both = frozenset({EventType.CREATED, EventType.EXPIRED})
    assert counts.bars(both, now=now, bar_seconds=15, count=4) == [3, 1, 0, 1]


def test_counts_are_bounded_in_time() -> None:
    counts = EventCounts()
    for step in range(3 * KEPT_SECONDS // STEP_SECONDS):
        time = START + step * STEP_SECONDS
        counts.add(EventType.CREATED, time, time)
    counts.add(EventType.CREATED, START, time)  # too late to count
    assert len(counts._steps) == KEPT_SECONDS // STEP_SECONDS + 1
    whole = bars(counts, time, bar_seconds=360, count=60)
    assert sum(whole) <= KEPT_SECONDS // STEP_SECONDS
    assert min(whole[:-1]) == 360 // STEP_SECONDS


@pytest.fixture
async def site(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Site]:
    tls = write_tls(tmp_path / "tls")
    async with (
        running(settings(tmp_path, tls, idp), clock=clock) as address,
        clients(address, tls) as connected,
    ):
        yield connected


@asynccontextmanager
async def feeding(site: Site, clock: Clock, events_kept: int = 100) -> AsyncIterator[Feed]:
    feed = Feed(site.operator, events_kept=events_kept, clock=clock)
    task = asyncio.create_task(feed.run())
    try:
        await until(lambda: feed.since is not None)
        yield feed
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_so():  # noqa: ASYNC110 - a feed has no event for it
            await asyncio.sleep(0.01)


async def test_the_last_events_are_kept(site: Site, clock: Clock) -> None:
    clock.advance(100)
    async with feeding(site, clock, events_kept=3) as feed:
        assert feed.since == START + 100
        for number in range(5):
            await site.resolve(f"s{number}")
        await until(lambda: feed.counts.bars(CREATED, now=clock(), bar_seconds=15, count=1) == [5])
        recent = [noted.event.record for noted in feed.recent(10)]
        assert [record.id for record in recent if record] == ["s4", "s3", "s2"]
        assert feed.has_dropped
        created, *_ = plots(feed, "15m", clock())
        assert created.total == 5  # the rates count dropped events, too


async def test_a_sign_out_is_among_the_events_of_the_sessions_that_it_concerns(
    site: Site, clock: Clock, idp: IdentityProvider
) -> None:
    for subject, sid in (("alice", "one"), ("alice", "two"), ("alice", None), ("bob", None)):
        await site.resolve(f"{subject}-{sid}", idp.token(subject, sid=sid))
    clock.advance(1)
    async with feeding(site, clock) as feed:
        await site.operator.revoke_provider_session(ISSUER, "one", subject="alice")
        await until(lambda: len(feed.recent(10)) == 2)
        concerned = {
            name: [
                timed.event.not_before.provider_session == NO_PROVIDER_SESSION
                for timed in feed.about(await site.operator.get(name))
                if timed.event.not_before
            ]
            for name in ("alice-one", "alice-two", "alice-None", "bob-None")
        }
    assert concerned == {
        "alice-one": [False],
        "alice-two": [],
        "alice-None": [True],
        "bob-None": [],
    }


async def test_a_watch_that_fails_is_logged_once_and_retried(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[int] = []

    def backoff_seconds(failed: int) -> float:
        waits.append(failed)
        return 0.0

    retries = SimpleNamespace(backoff_seconds=backoff_seconds)
    monkeypatch.setattr("authsvc.console.feed.RETRIES", retries)
    async with clients(site.address, site.tls) as other:
        (site.tls / "operator").write_text("stranger" * 8)
        feed = Feed(other.operator, events_kept=10, clock=clock)
        task = asyncio.create_task(feed.run())
        await until(lambda: feed.problem is not None)
        assert feed.problem is Reason.CALLER_NOT_ALLOWED
        assert feed.since is None
        await until(lambda: caplog.text.count("a caller was denied") > 2)
        assert caplog.text.count("events cannot be watched: CALLER_NOT_ALLOWED") == 1
        assert waits[:2] == [1, 2]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_plots_share_a_scale_and_shade_the_time_before_the_watch(clock: Clock) -> None:
    feed = Feed(None, events_kept=1, clock=clock)  # type: ignore[arg-type] # nothing is watched
    now = START + 1_000
    assert {plot.unknown_width for plot in plots(feed, "15m", now)} == {WIDTH}
    assert all(plot.bars == () for plot in plots(feed, "15m", now))

    for _ in range(4):
        feed.counts.add(EventType.CREATED, now, now)
    feed.counts.add(EventType.EXPIRED, now - 15, now)
    feed.since = now - BARS * 15 / 2
    created, _, _, expired, _ = plots(feed, "15m", now)
    assert created.unknown_width == pytest.approx(WIDTH / 2, abs=WIDTH / BARS)
    assert (created.total, created.peak, expired.peak) == (4, 4, 1)
    (tall,), (low,) = created.bars, expired.bars
    assert (tall.height, tall.y) == (HEIGHT, 0)
    assert (low.height, low.y) == (HEIGHT / 4, 3 * HEIGHT / 4)
    assert low.x < tall.x < WIDTH
    feed.since = START - 10_000
    assert plots(feed, "15m", now)[0].unknown_width == 0
    assert all(seconds % STEP_SECONDS == 0 for _, seconds in WINDOWS.values())
    assert max(seconds for _, seconds in WINDOWS.values()) * BARS <= KEPT_SECONDS
