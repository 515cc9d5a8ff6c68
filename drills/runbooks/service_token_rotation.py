"""Rotates an adapter's service token, of which authsvc has digests alone."""

from __future__ import annotations

from drills.drill import Drill
from drills.installation import replace_file, write_secret
from drills.stage import Stage


async def steps(stage: Stage) -> None:
    installation, secrets = stage.installation, stage.installation.secrets
    first, second = secrets / "adapter-token", secrets / "adapter-token-2"
    stage.step("1. a second token, and its digest in authsvc's pods")
    write_secret(second)
    await installation.make_secrets(secrets)
    await stage.deliver(*stage.replicas)
    stage.step("2. service_token_files has both, and authsvc is rolled")
    installation.tokens["adapter"] = [f"{first.name}.sha256", f"{second.name}.sha256"]
    await stage.roll()
    stage.step("3. the adapters get the second token, one after the other")
    for adapter in stage.adapters:
        replace_file(installation.mounted(adapter.name) / first.name, second.read_bytes())
        # An adapter reads its token each second, and later on a busy machine.
        await stage.hold(5, short=1.5)
    stage.step("4. the first file has the second token; it alone is named, and authsvc is rolled")
    replace_file(first, second.read_bytes())
    await installation.make_secrets(secrets)
    await stage.deliver(*stage.replicas, *stage.adapters)
    installation.tokens["adapter"] = [f"{first.name}.sha256"]
    await stage.roll()
    for path in (second, secrets / f"{second.name}.sha256"):
        path.unlink()
    denied = [event for it in stage.replicas for event in it.security_events("CALLER_DENIED")]
    stage.check(f"no caller was denied: {denied[:1]}", not denied)


DRILL = Drill(
    name="service-token-rotation",
    about="An adapter's service token is replaced.",
    page="docs/operations.md#rotation",
    before="",
    steps=steps,
)
