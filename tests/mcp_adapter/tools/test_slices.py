"""Work in slices of time: no work blocks all others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from mcp_adapter.tools import slices as slices_module
from mcp_adapter.tools.slices import Slices

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three looks at the clock fill a slice."""
    seconds = count()
    monkeypatch.setattr(slices_module, "SLICE_SECONDS", 3)
    monkeypatch.setattr("mcp_adapter.tools.slices.time.perf_counter", lambda: next(seconds))


async def test_all_results_are_collected_in_order() -> None:
    assert await Slices().collected(range(10)) == list(range(10))
    assert await Slices().collected(()) == []


async def test_what_work_raises_is_raised_and_work_goes_on() -> None:
    slices = Slices()

    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await slices.collected(failing())
    assert await slices.collected([1]) == [1]


async def test_there_is_one_slice_in_a_pass_for_all_work() -> None:
    slices, passes = Slices(), 0
    steps: list[tuple[int, str]] = []

    def work(name: str) -> Iterator[None]:
        for _ in range(9):
            steps.append((passes, name))
            yield

    async def others() -> None:
        nonlocal passes
        while True:
            await asyncio.sleep(0)
            passes += 1

    other = asyncio.create_task(others())
    await asyncio.gather(slices.collected(work("a")), slices.collected(work("b")))
    other.cancel()

    by_pass = [[name for number, name in steps if number == at] for at in range(passes + 1)]
    worked = [names for names in by_pass if names]
    assert worked == [["a"] * 3, ["b"] * 3] * 3


async def test_a_slice_that_is_cancelled_leaves_the_others_theirs() -> None:
    slices = Slices()
    tasks = [asyncio.create_task(slices.collected(range(100))) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    assert await tasks[2] == list(range(100))
