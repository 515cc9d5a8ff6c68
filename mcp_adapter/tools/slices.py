"""Work that would hold up the event loop, done in slices of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SLICE_SECONDS = 0.00025
"""Longest that such work holds the event loop at once, but for the step that exceeds it."""

ResultT = TypeVar("ResultT")


class Slices:
    """One slice in a pass of the event loop, for all work together. Belongs to one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def collected(self, work: Iterable[ResultT]) -> list[ResultT]:
        """All that ``work`` yields. What it does from one result to the next is a step.

        Raises:
            Exception: whatever ``work`` raises.
        """
        results: list[ResultT] = []
        steps = iter(work)
        is_done = False
        while not is_done:
            async with self._lock:
                is_done = _slice(steps, results)
                # What else is ready runs before the next slice.
                await asyncio.sleep(0)
        return results


def _slice(steps: Iterator[ResultT], results: list[ResultT]) -> bool:
    """Do steps for as long as a slice lasts. Whether the work is done."""
    end = time.perf_counter() + SLICE_SECONDS
    for result in steps:
        results.append(result)
        if time.perf_counter() >= end:
            return False
    return True
