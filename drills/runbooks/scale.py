"""Adds replicas, and takes them away."""

from __future__ import annotations

from drills.drill import Drill
from drills.programs import Replica
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    added = [Replica(number, stage.installation) for number in (3, 4)]
    stage.replicas.extend(added)
    stage.step("from three replicas to five")
    await stage.start(*added)
    stage.step("clients find the new ones")

    async def serve() -> bool:
        served = [await stage.metric(it.metrics, "authsvc_resolves_total") for it in added]
        return all(served)

    seconds = await stage.until("the new replicas serve", serve)
    stage.note(f"the new replicas were called {seconds:.1f} s after they were ready")
    await stage.hold(5)
    stage.step("from five to two, one by one")
    for replica in stage.replicas[2:]:
        await stage.stop(replica)
    del stage.replicas[2:]
    stage.step("two serve")
    await stage.hold(5)


DRILL = Drill(
    name="scale",
    about="From three replicas to five, and to two.",
    page="docs/operations.md#upgrades-without-downtime",
    before="",
    steps=steps,
)
