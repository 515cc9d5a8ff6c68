"""The pass limiter: one waiter in each pass of the event loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from authsvc.resolver.fairness import PassLimiter

pytestmark = pytest.mark.anyio


async def passes_of(waiters: list[asyncio.Task[None]]) -> list[int]:
    """How many waiters are done after each pass of the loop, until all are."""
    counts = []
    while not all(waiter.done() for waiter in waiters):
        await asyncio.sleep(0)
        counts.append(sum(waiter.done() for waiter in waiters))
    return counts


async def test_no_two_waiters_pass_at_once() -> None:
    limiter = PassLimiter()
    waiters = [asyncio.create_task(limiter.wait()) for _ in range(5)]
    counts = [0, *await passes_of(waiters)]
    steps = {after - before for before, after in pairwise(counts)}
    assert steps <= {0, 1}


async def test_a_cancelled_waiter_takes_no_pass() -> None:
    limiter = PassLimiter()
    first, *cancelled, last = [asyncio.create_task(limiter.wait()) for _ in range(5)]
    await asyncio.sleep(0)  # all of them wait now
    for waiter in cancelled:
        waiter.cancel()
    await asyncio.wait_for(asyncio.gather(first, last), 10)
    assert all(waiter.cancelled() for waiter in cancelled)


async def test_it_works_on_when_all_waiters_were_cancelled() -> None:
    limiter = PassLimiter()
    first, *others = [asyncio.create_task(limiter.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    for waiter in others:
        waiter.cancel()
    await asyncio.wait([first, *others])
    await asyncio.sleep(0)  # the pass that finds nobody
    await asyncio.wait_for(limiter.wait(), 10)
