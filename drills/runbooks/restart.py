"""Replaces every replica, one by one."""

from __future__ import annotations

from functools import partial

from drills.drill import Drill
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    for replica in stage.replicas:
        stage.step(f"{replica.name} drains and ends")
        await stage.stop(replica)
        stage.step(f"{replica.name} starts, serves, and is found")
        await stage.start(replica)
        await stage.until(f"{replica.name} serves", partial(stage.serves, replica))
        await stage.settled(replica)


DRILL = Drill(
    name="restart",
    about="Every replica is replaced, one after the other.",
    page="docs/operations.md#upgrades-without-downtime",
    before="no call failed",
    steps=steps,
)
