"""The store answers nothing for a while, and an operator watches sessions all the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from authsvc.client import AdminClient, ClientTls
from authsvc.domain.errors import AuthError
from drills.drill import Drill
from drills.stage import Stage

OUTAGE_SECONDS = 135.0
RECOVERY_SECONDS = 10.0

MOST_ACTIONS = 40
"""Events of the operator's watch, which is resumed again and again: a few a minute."""


async def steps(stage: Stage) -> None:
    async with _watching(stage):
        await _outage(stage)


async def _outage(stage: Stage) -> None:
    before = _actions(stage)
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
    more = _actions(stage) - before
    stage.note(f"the operator's watch went on, and is {more} more ADMIN_ACTION in the audit")
    stage.check("the audit is not flooded", more <= MOST_ACTIONS)
    stage.step("it is over")
    await stage.hold(3, short=1)


@asynccontextmanager
async def _watching(stage: Stage) -> AsyncIterator[None]:
    """An operator watches all sessions during the block."""
    secrets = stage.installation.mounted("operator")
    tls = ClientTls(secrets / "ca.crt", service_token_file=secrets / "operator-token")
    target = f"localhost:{stage.installation.port}"
    async with AdminClient(target, tls=tls) as operator, operator.watching() as events:
        watching = asyncio.create_task(_follow(events))
        try:
            yield
            stage.check("the watch goes on", not watching.done())
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, AuthError):
                await watching


async def _follow(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


def _actions(stage: Stage) -> int:
    return sum(len(it.security_events("ADMIN_ACTION")) for it in stage.replicas)


DRILL = Drill(
    name="store-outage",
    about="The store answers nothing, and comes back.",
    page="docs/runbook.md#authsvcstorefails",
    before="in 135 s no alert fired, and the audit had 4,081 ADMIN_ACTION",
    steps=steps,
    alerts=frozenset({"AuthsvcStoreFails"}),
)
