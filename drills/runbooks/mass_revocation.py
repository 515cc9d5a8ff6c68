"""Revokes every token."""

from __future__ import annotations

from drills.drill import Drill
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    before = len(await _listed(stage))
    old = await stage.load.begin("revoked")
    stage.check("a token is accepted before", not (await stage.load.call(old)).failure)
    stage.step("authsvc sessions revoke --everyone")
    ran = await stage.run("authsvc sessions revoke --everyone", "--yes")
    stage.check(f"it is done: {ran.err.strip()}", ran.code == 0)
    stage.step("clients get new tokens, and go on")
    answer = await stage.load.call(old)
    stage.check("a token from before is TOKEN_REVOKED", answer.reason == "TOKEN_REVOKED")
    await stage.hold(4, short=1)
    after = await _listed(stage)
    stage.note(f"{before} sessions before, {len(after)} after: a revocation ends tokens")


async def _listed(stage: Stage) -> list[object]:
    ran = await stage.run("authsvc sessions list", "--json")
    stage.check(f"sessions are listed: {ran.err.strip()}", ran.code == 0)
    return list(ran.json()["sessions"]) if ran.code == 0 else []


DRILL = Drill(
    name="mass-revocation",
    about="Every token of everybody is revoked; clients refresh theirs.",
    page="docs/operations.md#revocation-drills",
    before="",
    steps=steps,
)
