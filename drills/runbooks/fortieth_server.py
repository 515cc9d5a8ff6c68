"""Adds an MCP server to an installation that serves 39 others."""

from __future__ import annotations

import time

from authsvc.client import AuthClient, ClientTls
from authsvc.domain.errors import AuthError
from chaos.identity import RESOURCE
from drills.drill import Drill
from drills.installation import write_secret
from drills.programs import Adapter
from drills.stage import Stage

OTHERS = 38
"""Registered beside the adapters of the load."""


async def steps(stage: Stage) -> None:
    installation = stage.installation
    base = RESOURCE.rpartition("/")[0]
    stage.step(f"{OTHERS} other MCP servers are registered")
    for number in range(OTHERS):
        installation.callers[f"server-{number}"] = [f"{base}/server-{number}"]
        write_secret(installation.secrets / f"server-{number}-token")
    await installation.make_secrets(installation.secrets)
    await stage.roll()

    start = time.monotonic()
    stage.step("the fortieth is registered, with its token and digest; authsvc is rolled")
    resource = f"{base}/wiki"
    installation.callers["wiki"] = [resource]
    ran = await stage.run("python deploy/make_secrets.py --caller wiki", installation.secrets)
    stage.check(f"its token and digest are made: {ran.err}", ran.code == 0)
    await stage.roll()
    stage.step("its server starts, and a session of it begins")
    adapter = Adapter("adapter-wiki", "127.0.2.40", installation, "wiki")
    await adapter.start()
    try:
        answer = await stage.http.get(f"{adapter.origin}/readyz")
        stage.check(f"it is ready: {answer.text}", answer.is_success)
        client = await stage.load.begin("ada", url=adapter.url, resource=resource)
        called = await stage.load.call(client, url=adapter.url)
        stage.check(f"a tool answers: {called.failure}", not called.failure)
        stage.note(f"from its token to its first session {time.monotonic() - start:.0f} s")
        other = await stage.load.call(client)
        stage.check(
            "its clients' tokens open no other server", other.reason == "TOKEN_AUDIENCE_MISMATCH"
        )
        stage.step("every other server is still served")
        failed = [name for name in installation.callers if not await _is_served(stage, name)]
        stage.check(f"each of them: not {failed}", not failed)
    finally:
        await adapter.end()


async def _is_served(stage: Stage, name: str) -> bool:
    """Whether authsvc creates a session as this MCP server's gate would have it do."""
    secrets = stage.installation.secrets
    (resource,) = stage.installation.callers[name]
    token = stage.installation.issuer.token("ada", resource=resource)
    tls = ClientTls(secrets / "ca.crt", service_token_file=secrets / f"{name}-token")
    async with AuthClient(f"localhost:{stage.installation.port}", tls=tls) as client:
        try:
            return bool((await client.create(token.text, resource=resource)).session)
        except AuthError:
            return False


DRILL = Drill(
    name="fortieth-server",
    about="An MCP server is added, end to end, while 39 others are served.",
    page="docs/operations.md#another-mcp-server",
    before="",
    steps=steps,
)
