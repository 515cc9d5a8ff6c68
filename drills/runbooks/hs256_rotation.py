"""Rotates an HS256 secret, in the right order and, as a contrast, in the wrong one."""

from __future__ import annotations

from drills.drill import Drill
from drills.installation import replace_file, write_secret
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    secrets = stage.installation.secrets
    current, previous = secrets / "issuer.secret", secrets / "issuer.previous"

    stage.step("the current secret is in previous_secret_files, too")
    replace_file(previous, current.read_bytes())
    await stage.deliver(*stage.replicas)
    stage.step("the new secret is in secret_file")
    write_secret(current)
    await stage.deliver(*stage.replicas)
    stage.step("the issuer signs with the new secret")
    stage.installation.issuer.adopt(current)
    await stage.hold(3, short=1.0)
    stage.step("all tokens of the old secret have been replaced")
    refresh_all(stage)
    await stage.hold(1, short=0.5)
    stage.step("the old secret is withdrawn")
    write_secret(previous)
    await stage.deliver(*stage.replicas)
    right = stage.tally.failed
    calls = stage.tally.calls

    stage.step("the wrong order: a new secret in secret_file alone", is_outage=True)
    old = current.read_bytes()
    write_secret(current)
    await stage.deliver(*stage.replicas)
    wrong = stage.tally.steps[-1].failures.total()
    stage.note(f"in the right order {right} of {calls} calls failed")
    stage.note(f"in the wrong order {wrong} of {len(stage.tally.steps[-1].calls)} failed")
    stage.check("the wrong order fails, so that the drill can", wrong)
    stage.step("the old secret is in previous_secret_files: it is mended", is_outage=True)
    replace_file(previous, old)
    await stage.deliver(*stage.replicas)
    stage.installation.issuer.adopt(current)
    refresh_all(stage)


def refresh_all(stage: Stage) -> None:
    """Give every client a new token."""
    for client in stage.load.clients.values():
        stage.load.refresh(client)


DRILL = Drill(
    name="hs256-rotation",
    about="An issuer's HS256 secret is replaced while tokens of the old one are in use.",
    page="docs/operations.md#rotation",
    before="69 of 560 calls failed in the wrong order",
    steps=steps,
    is_short=True,
)
