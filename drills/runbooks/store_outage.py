"""The store answers nothing for a while."""

from __future__ import annotations

from functools import partial

from drills.drill import Drill
from drills.stage import Stage

OUTAGE_SECONDS = 135.0
RECOVERY_SECONDS = 10.0


async def steps(stage: Stage) -> None:
    stage.step("Valkey answers nothing", is_outage=True)
    stage.valkey.pause()
    await stage.hold(OUTAGE_SECONDS, short=5)
    failures = sum(
        [
            await stage.metric(it.metrics, "authsvc_store_operation_failures_total") or 0
            for it in stage.replicas
        ]
    )
    stage.check("the metrics of the store's failures say so", failures)
    stage.note(f"{failures:.0f} failures of the store were counted")
    stage.step("Valkey answers again", is_outage=True)
    stage.valkey.resume()
    seconds = await stage.until(
        "a session begins", partial(stage.load.attempt, "recovered"), seconds=RECOVERY_SECONDS
    )
    stage.note(f"a session began {seconds:.2f} s after the store was back")
    await stage.hold(2)
    stage.step("it is over")
    await stage.hold(3, short=1)


DRILL = Drill(
    name="store-outage",
    about="The store answers nothing, and comes back.",
    page="docs/runbook.md#authsvcstorefails",
    before="in 135 s no alert fired",
    steps=steps,
    alerts=frozenset({"AuthsvcStoreFails"}),
)
