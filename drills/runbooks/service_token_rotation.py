"""Rotates an adapter's service token."""

from __future__ import annotations

from drills.drill import Drill
from drills.installation import replace_file, write_secret
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    installation = stage.installation
    first, second = installation.secrets / "adapter-token", installation.secrets / "adapter-token-2"
    write_secret(second)
    installation.tokens["adapter"] = [first.name, second.name]
    stage.step("service_token_files has a second file, and authsvc is rolled")
    await stage.roll()
    stage.step("the adapters' file has the second token")
    for adapter in stage.adapters:
        replace_file(installation.mounted(adapter.name) / first.name, second.read_bytes())
        await stage.hold(1.5)
    stage.step("service_token_files has the second file alone, and authsvc is rolled")
    installation.tokens["adapter"] = [second.name]
    await stage.roll()
    stage.check("no caller was denied", not stage.logged("CALLER_DENIED"))


DRILL = Drill(
    name="service-token-rotation",
    about="An adapter's service token is replaced.",
    page="docs/operations.md#rotation",
    before="",
    steps=steps,
)
