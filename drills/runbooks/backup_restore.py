"""Restores a dump onto an empty volume, and closes the gap of the revocations since then."""

from __future__ import annotations

import time

from drills.drill import Drill
from drills.load import Client
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    known = await stage.load.begin("known")
    stage.step("a backup: BGSAVE, and dump.rdb is copied away")
    before = stage.valkey_cli("LASTSAVE")
    # LASTSAVE counts in whole seconds.
    await stage.until("a second has begun", lambda: time.time() >= before.timestamp() + 1)
    stage.valkey_cli("BGSAVE")
    await stage.until("LASTSAVE has moved on", lambda: stage.valkey_cli("LASTSAVE") != before)
    backup = (stage.valkey.folder / "dump.rdb").read_bytes()
    stage.step("afterwards somebody is signed out, and somebody signs in")
    ran = await stage.run("authsvc sessions revoke", "--subject", "known", "--yes")
    stage.check(f"it is revoked: {ran.err.strip()}", ran.code == 0)
    await stage.until("it is obeyed", lambda: _is_revoked(stage, known))

    stage.step("1. callers are kept out; the volume is lost", is_outage=True)
    await _scale_adapters_to_zero(stage)
    stage.valkey.kill()
    for replica in stage.replicas:
        replica.kill()
        await replica.ended()
    stage.step("2. Valkey starts on an empty volume with the dump, then authsvc", is_outage=True)
    await _restore(stage, backup)
    await stage.start(*stage.replicas)
    stage.step("3. authsvc sessions revoke --everyone", is_outage=True)
    ran = await stage.run("authsvc sessions revoke --everyone", "--yes")
    stage.check(f"everything is revoked: {ran.err.strip()}", ran.code == 0)
    stage.step("4. the adapters are back", is_outage=True)
    stage.are_out = False
    for adapter in stage.adapters:
        if not adapter.is_running:
            await adapter.start()
    # Sessions that were begun since the backup are gone: their clients begin anew.
    await stage.hold(2.0, short=1.0)
    stage.step("clients have refreshed their tokens, and go on")
    await stage.hold(3, short=1)
    answer = await stage.load.call(known)
    stage.check("what was revoked since the backup is revoked", answer.reason == "TOKEN_REVOKED")
    stage.load.refresh(known)
    answer = await stage.load.call(known)
    stage.check(f"a session of the backup goes on: {answer.failure}", not answer.failure)


async def _scale_adapters_to_zero(stage: Stage) -> None:
    """In the short form, which has no time to start them again, they are kept from clients."""
    stage.are_out = True
    for adapter in [] if stage.is_short else stage.adapters:
        adapter.drain()
        await adapter.ended()


async def _restore(stage: Stage, backup: bytes) -> None:
    volume = stage.folder / f"volume-{time.monotonic_ns()}"
    own = stage.valkey.on(volume)
    (volume / "dump.rdb").write_bytes(backup)
    restoring = stage.server = own.on(volume, "--appendonly", "no")
    restoring.start()
    stage.valkey_cli("CONFIG SET appendonly yes")
    await stage.until("the append-only file is written", lambda: _is_written(stage))
    stage.check("it holds the backup", _keys(stage))
    restoring.kill()
    stage.server = own
    own.start()
    stage.check("the restart has its data", _keys(stage))


def _keys(stage: Stage) -> int:
    with stage.valkey.client() as client:
        return int(client.execute_command("DBSIZE"))


def _is_written(stage: Stage) -> bool:
    info = stage.valkey_cli("INFO persistence")
    return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


async def _is_revoked(stage: Stage, client: Client) -> bool:
    return (await stage.load.call(client)).reason == "TOKEN_REVOKED"


DRILL = Drill(
    name="backup-restore",
    about="The store's volume is lost; a dump is restored, and revocations since then are kept.",
    page="docs/operations.md#backup-and-restore",
    before="",
    steps=steps,
    is_short=True,
)
