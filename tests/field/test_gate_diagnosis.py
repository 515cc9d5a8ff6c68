"""``authsvc doctor --gate``: a gate of one's own, as its clients see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.client import AuthError, Reason
from authsvc.diagnosis import Finding, Level, diagnose, gate
from authsvc.server.config import Settings
from mcp_adapter import SessionGate
from mcp_adapter.testing import FakeResolver
from tests.mcp_adapter.harness import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.commands import run
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
async def url(resolver: FakeResolver) -> AsyncIterator[str]:
    app = Starlette(routes=[Route("/mcp", lambda _: PlainTextResponse(""), methods=["POST"])])
    served: list[ASGIApp] = [Starlette()]  # for the lifespan, before the URL is known

    async def last(scope: Scope, receive: Receive, send: Send) -> None:
        await served[-1](scope, receive, send)

    async with resolver, running(last) as base:
        url = f"{base}/mcp"
        gate = SessionGate(app, resolver=resolver, resource=url, authorization_servers=[ISSUER])
        served.append(gate)
        yield url
        served.pop()


@pytest.fixture
def settings(tmp_path: Path, idp: IdentityProvider, url: str) -> Settings:
    return settings_for(tmp_path, idp, resources=(url,))


async def found(url: str, settings: Settings | None = None) -> list[Finding]:
    checks = [gate.check(url, settings)]
    return [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]


async def test_a_gate_that_agrees(url: str, settings: Settings, resolver: FakeResolver) -> None:
    findings = await found(url, settings)
    assert {it.level for it in findings} == {Level.OK}
    texts = [it.text for it in findings]
    metadata = f"{url.removesuffix('/mcp')}/.well-known/oauth-protected-resource/mcp"
    assert texts == [
        f"{metadata} names resource '{url}'",
        f"{url} is one of authsvc's resources",
        f"authsvc trusts {ISSUER}, to which clients are sent",
        f"{url} answers 401 TOKEN_MALFORMED to a text that is no token: authsvc answers the gate",
    ]
    assert resolver.sessions == {}


@pytest.mark.parametrize(
    ("registered", "remedy"),
    [("{url}/", "the slash at the end"), ("https://other.example", "identically")],
)
async def test_a_resource_that_is_another(
    url: str, settings: Settings, registered: str, remedy: str
) -> None:
    changes = {"resources": (registered.format(url=url),)}
    findings = await found(url, settings.model_copy(update=changes))
    (wrong,) = (it for it in findings if it.level is not Level.OK)
    assert "is none of authsvc's" in wrong.text
    assert remedy in wrong.remedy


async def test_a_gate_that_is_asked_at_another_url_than_its_resource(url: str) -> None:
    other = url.replace("127.0.0.1", "localhost")
    (wrong, _) = await found(other)
    assert (wrong.level, "which is another URL" in wrong.text) == (Level.WARN, True)
    assert "RFC 9728 section 3.3" in wrong.remedy


@pytest.mark.parametrize(
    ("reason", "text", "remedy"),
    [
        (Reason.CALLER_NOT_ALLOWED, "403 CALLER_NOT_ALLOWED", "authsvc's resources"),
        (Reason.SERVICE_UNAVAILABLE, "503 SERVICE_UNAVAILABLE", "the server's log"),
    ],
)
async def test_an_authsvc_that_does_not_answer_it(
    url: str, resolver: FakeResolver, reason: Reason, text: str, remedy: str
) -> None:
    resolver.error = AuthError(reason)
    _, wrong = await found(url)
    assert (wrong.level, text in wrong.text) == (Level.FAIL, True)
    assert remedy.lower() in wrong.remedy.lower()


async def test_no_gate_at_all() -> None:
    app = Starlette(routes=[Route("/mcp", lambda _: PlainTextResponse("hello"), methods=["POST"])])
    async with running(app) as base:
        metadata, answer = await found(f"{base}/mcp")
    assert "without the metadata of a resource" in metadata.text
    assert "metadata_routes" in metadata.remedy
    assert "no gate asks authsvc there" in answer.text
    (unreached,) = await found("http://127.0.0.1:1/mcp")
    assert (unreached.level, "ConnectError" in unreached.text) == (Level.FAIL, True)


async def test_the_command(url: str) -> None:
    ran = await run("doctor", "--gate", url)
    assert ran.code == 0
    assert "answers the gate" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --config, --adapter-config, --gate or --envoy"),
        (("--gate", "mcp.example"), "--gate is the URL of an MCP server"),
        (("--gate", RESOURCE, "--adapter-url", "http://h"), "--adapter-url is for the adapter of"),
    ],
)
async def test_options_without_effect(arguments: tuple[str, ...], message: str) -> None:
    ran = await run("doctor", *arguments)
    assert (ran.code, message in ran.err) == (2, True)
