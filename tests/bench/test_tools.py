"""The comparison of tool calls with S3 calls: both sides are asked, and the verdict follows."""

from __future__ import annotations

import pytest

from bench.figures import Sample
from bench.tools import PAIRS, compare, over_limit, render

pytestmark = pytest.mark.anyio


def samples(tool_seconds: float) -> dict[str, list[Sample]]:
    """One round in which an S3 call takes a millisecond."""
    taken: dict[str, list[Sample]] = {}
    for pair in PAIRS:
        taken[pair.tool.name] = [Sample(10, 1.0, 0.0, tool_seconds * 10)]
        taken[pair.alone] = [Sample(10, 1.0, 0.0, 0.010)]
    return taken


def test_the_ratio_decides() -> None:
    assert over_limit(samples(0.0012)) == []
    assert over_limit(samples(0.0014)) == [pair.tool.name for pair in PAIRS]
    assert "1.20" in render(samples(0.0012))


async def test_every_side_is_sampled() -> None:
    taken = await compare(rounds=2, calls=1)
    assert set(taken) == set(samples(0.001))
    assert all(len(rounds) == 2 for rounds in taken.values())
