"""Hosts, origins, proxies and paths as they come from the field, over real HTTP."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from authsvc.access.callers import Caller
from authsvc.console.config import ConsoleSettings
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Resolution
from authsvc.domain.tokens import BearerToken
from authsvc.http_server.settings import HttpLimits
from authsvc.net.hosts import AllowedHosts, AllowedOrigins
from authsvc.net.peers import Peers
from authsvc.net.urls import canonical_resource, resource_fault
from authsvc.server.issuers import issuer_of
from authsvc.tokens.jwt import JwtVerifier
from mcp_adapter import with_origin_checks
from mcp_adapter.gate.origins import WARNING_INTERVAL_SECONDS, OriginGuard
from mcp_adapter.server.config import Settings
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    LEGACY,
    MODERN,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_app,
    initialize,
    principal,
    request,
    running,
    settings,
)
from tests.support.clock import Clock
from tests.support.service import serving as serving_authsvc
from tests.support.service import settings_for
from tests.support.spellings import DIFFERENT, SAME
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(**changes: object) -> AsyncIterator[Endpoint]:
    """The adapter with these settings."""
    resolver, meeting = MemoryResolver({"alice": principal("alice")}), Meeting()
    async with (
        running(demo_app(resolver, meeting, **changes)) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)


async def statuses(endpoint: Endpoint, headers: Mapping[str, str]) -> set[int]:
    """Of a request of each method: the first answer and a later one of a session."""
    answers = [
        await endpoint.post(initialize(), headers=headers),
        await endpoint.http.get("/mcp", headers=headers),
        await endpoint.http.delete("/mcp", headers=headers),
        await endpoint.http.options("/mcp", headers=headers),
        await endpoint.modern("server/discover", headers=headers),
    ]
    return {answer.status_code for answer in answers}


SERVED = {200, 204, 400, 405}
"""What the methods answer to a request that passes the guard."""

HTTPS = ("https://mcp.example/mcp", "https://mcp.example:443/mcp")


@pytest.mark.parametrize("resource", HTTPS)
@pytest.mark.parametrize(
    "host",
    ["mcp.example", "mcp.example:443", "MCP.Example:443", "mcp.example:", "mcp.example:0443"],
)
async def test_a_default_port_is_one_that_is_not_written(resource: str, host: str) -> None:
    async with serving(resource=resource) as endpoint:
        assert await statuses(endpoint, {"Host": host}) <= SERVED


@pytest.mark.parametrize(
    ("resource", "host"),
    [
        ("http://mcp.example/mcp", "mcp.example:80"),
        ("http://mcp.example:80/mcp", "mcp.example"),
        ("https://mcp.example:8443/mcp", "mcp.example:8443"),
        ("https://[2001:db8::7]/mcp", "[2001:DB8:0::7]:443"),
        ("https://[2001:db8::7]:443/mcp", "[2001:db8::7]"),
        ("https://10.0.0.7/mcp", "10.0.0.7:443"),
    ],
)
async def test_a_host_in_another_spelling_is_the_resources(resource: str, host: str) -> None:
    assert await guarded({"host": host}, resource=resource) == 200


HOSTILE = [
    *("mcp.example:80", "mcp.example:8443", "mcp.example.", "mcp.example.:443", "mcp.example:0"),
    *("user@mcp.example", "mcp.example@evil.example", "mcp.example,evil.example", "mcp.example/"),
    *("mcp.example:443:443", "mcp.example:443@evil.example", "mcp.example:443.evil.example"),
    *("evil.example", "mcp.example#", "mcp.example?", "mcp%2eexample", "http://mcp.example", "*"),
    *("xmcp.example", "x.mcp.example", "mcp.example:+443", "mcp.example:99999", "[mcp.example]"),
    *("127.1", "2130706433", "[::ffff:127.0.0.1]", "[::1", "localhost.evil.example", ""),
]


@pytest.mark.parametrize("host", HOSTILE)
async def test_another_host_is_not_served(host: str) -> None:
    assert await guarded({"host": host}, resource="https://mcp.example/mcp") == 421


async def passed(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that answers 200."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def guarded(
    headers: Mapping[str, str] | list[tuple[str, str]],
    *,
    client: tuple[str, int] | None = ("10.0.0.7", 5000),
    resource: str = RESOURCE,
    **options: list[str],
) -> int:
    """The status that the guard gives a request, whatever its server lets through."""
    given = headers.items() if isinstance(headers, Mapping) else headers
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("read")

    scope = {
        "type": "http",
        "method": "POST",
        "client": client,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
    }
    await with_origin_checks(passed, resource=resource, **options)(scope, receive, send)
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ("*", "anything.example", 200),
        ("*", "anything.example:8000", 200),
        ("*", "10.0.0.7", 200),
        ("*", "[::1]", 200),
        ("*", "a@b", 421),
        ("*", "", 421),
        ("*.example.com", "mcp.example.com", 200),
        ("*.example.com", "MCP.Example.COM:443", 200),
        ("*.example.com", "a.b.example.com", 200),
        ("*.example.com", "example.com", 421),
        ("*.example.com", ".example.com", 421),
        ("*.example.com", "xexample.com", 421),
        ("*.example.com", "mcp.example.com.", 421),
        ("*.example.com", "mcp.example.com:8443", 421),
        ("*.example.com", "*.example.com", 421),
        ("*.example.com", "mcp.example.com.evil.example", 421),
        ("*.example.com:8443", "mcp.example.com:8443", 200),
        ("*.example.com:8443", "mcp.example.com", 421),
        ("*.example.com:*", "mcp.example.com:1", 200),
        ("*.example.com:*", "example.com:1", 421),
        ("*.com", "10.0.0.7", 421),
        ("inner:443", "inner", 200),
        ("inner", "inner:443", 200),
        ("inner", "inner:80", 421),
        ("inner:*", "INNER:8000", 200),
        ("[2001:db8::7]:*", "[2001:db8:0:0::7]:8000", 200),
    ],
)
async def test_allowed_hosts(allowed: str, host: str, status: int) -> None:
    assert await guarded({"host": host}, allowed_hosts=[allowed]) == status


async def test_every_host_is_served_where_all_are_allowed() -> None:
    async with serving(allowed_hosts=("*",)) as endpoint:
        assert await statuses(endpoint, {"Host": "anything.example:8080"}) <= SERVED


UPSTREAM = "upstream:8000"
PUBLIC = "mcp.example"


@pytest.mark.parametrize(
    ("proxies", "peer"),
    [
        (["10.0.0.7"], "10.0.0.7"),
        (["10.0.0.0/8"], "10.0.0.7"),
        (["10.0.0.7"], "::ffff:10.0.0.7"),
        (["::ffff:10.0.0.0/104"], "10.0.0.7"),
        (["fd00::/8"], "fd00::7"),
        (["fd00::7"], "fd00::7"),
        (["fe80::/10"], "fe80::7%eth0"),
        (["192.0.2.1", "10.0.0.7"], "10.0.0.7"),
        (["unix"], ""),
    ],
)
@pytest.mark.parametrize(
    "said",
    [
        {"x-forwarded-host": PUBLIC},
        {"x-forwarded-host": f"{PUBLIC}:443", "x-forwarded-proto": "https"},
        {"x-forwarded-host": f"{PUBLIC}, {PUBLIC}"},
        {"x-forwarded-host": f"{PUBLIC.upper()}, {PUBLIC}:443", "forwarded": f"host={PUBLIC}"},
        {"forwarded": f"for=192.0.2.60;host={PUBLIC};proto=https"},
        {"forwarded": f'For="[2001:db8::1]:9"; HOST="{PUBLIC}:443" ; by=_x'},
        {"forwarded": f'for=192.0.2.60, for="a\\"b,host=c";host="{PUBLIC}"'},
        {"forwarded": f"host={PUBLIC}", "x-forwarded-host": PUBLIC},
        {"forwarded": f"for=192.0.2.60:4711;host={PUBLIC}:443;proto=https"},
        {"forwarded": f"for=[2001:db8::1]:9;host={PUBLIC}"},
    ],
)
async def test_a_trusted_proxy_says_which_host_was_asked_for(
    proxies: list[str], peer: str, said: Mapping[str, str]
) -> None:
    headers = {"host": UPSTREAM, **said}
    client = (peer, 5000) if peer else None

    assert await guarded(headers, client=client, trusted_proxies=proxies) == 200


@pytest.mark.parametrize("peer", ["10.0.0.8", "::1", "", "10.0.0.7.evil.example", "testclient"])
async def test_nobody_else_is_believed(peer: str) -> None:
    client = (peer, 5000) if peer else None
    said = {"x-forwarded-host": PUBLIC, "forwarded": f"host={PUBLIC}"}

    for_upstream = await guarded({"host": UPSTREAM, **said}, client=client, trusted_proxies=PROXY)
    for_us = await guarded(
        {"host": PUBLIC, "x-forwarded-host": "evil.example"}, client=client, trusted_proxies=PROXY
    )

    assert (for_upstream, for_us) == (421, 200)


PROXY = ["10.0.0.7"]


@pytest.mark.parametrize(
    "said",
    [
        [("x-forwarded-host", "evil.example")],
        [("x-forwarded-host", f"evil.example, {PUBLIC}")],
        [("x-forwarded-host", f"{PUBLIC}:8443, {PUBLIC}")],
        [("x-forwarded-host", f"{PUBLIC}., {PUBLIC}")],
        [("x-forwarded-host", f"{PUBLIC}, evil.example")],
        [("x-forwarded-host", PUBLIC), ("x-forwarded-host", "evil.example")],
        [("x-forwarded-host", "")],
        [("x-forwarded-host", f"{PUBLIC},")],
        [("x-forwarded-host", f"user@{PUBLIC}")],
        [("x-forwarded-host", f"{PUBLIC}\r\nx: y")],
        [("x-forwarded-host", PUBLIC), ("forwarded", "host=evil.example")],
        [("forwarded", "host=evil.example")],
        [("forwarded", f"host=evil.example, host={PUBLIC}")],
        [("forwarded", f"host={PUBLIC}"), ("forwarded", "host=evil.example")],
        [("forwarded", f"host={PUBLIC}, for=192.0.2.60")],
        [("forwarded", f"host={PUBLIC};host={PUBLIC}")],
        [("forwarded", f"host={PUBLIC};Host=evil.example")],
        [("forwarded", f"host={PUBLIC}:443@evil.example")],
        [("forwarded", f'host="{PUBLIC}')],
        [("forwarded", f"host={PUBLIC} proto=https")],
        [("forwarded", f"host={PUBLIC},")],
        [("forwarded", PUBLIC)],
        [("forwarded", 'host=""')],
    ],
)
async def test_a_proxy_that_says_several_things_or_none_is_not(
    said: list[tuple[str, str]],
) -> None:
    headers = [("host", PUBLIC), *said]

    assert await guarded(headers, trusted_proxies=PROXY) == 421


async def test_a_trusted_proxy_that_says_nothing_sends_the_host_itself() -> None:
    said = {"forwarded": "for=192.0.2.60", "x-forwarded-for": "192.0.2.60"}

    assert await guarded({"host": PUBLIC, **said}, trusted_proxies=PROXY) == 200
    assert await guarded({"host": UPSTREAM, **said}, trusted_proxies=PROXY) == 421


async def test_a_proxy_before_the_adapter() -> None:
    said = {"Host": UPSTREAM, "X-Forwarded-Host": PUBLIC}
    async with AsyncExitStack() as stack:
        trusting = await stack.enter_async_context(serving(trusted_proxies=("127.0.0.0/8",)))
        plain = await stack.enter_async_context(serving())

        assert await statuses(trusting, said) <= SERVED
        assert await statuses(plain, said) == {421}


@pytest.mark.parametrize(
    ("headers", "options", "remedy"),
    [
        ({"host": UPSTREAM}, {}, "allowed_hosts"),
        (
            {"host": UPSTREAM, "x-forwarded-host": PUBLIC},
            {},
            "if its sender, 10.0.0.7 as the HTTP server says, is your proxy and no client",
        ),
        ({"host": UPSTREAM, "x-forwarded-host": PUBLIC}, {}, "proxy_headers=False"),
        ({"host": UPSTREAM, "forwarded": f"host={PUBLIC}"}, {}, "trusted_proxies"),
        (
            {"host": UPSTREAM, "x-forwarded-host": f"{PUBLIC}, evil.example"},
            {"trusted_proxies": PROXY},
            "several",
        ),
        (
            {"host": UPSTREAM, "forwarded": "host"},
            {"trusted_proxies": PROXY},
            "Forwarded is malformed",
        ),
        ({"host": PUBLIC, "origin": "https://evil.example"}, {}, "allowed_origins"),
    ],
)
async def test_a_refusal_is_logged_with_the_setting_that_mends_it(
    caplog: pytest.LogCaptureFixture,
    headers: Mapping[str, str],
    options: Mapping[str, Any],
    remedy: str,
) -> None:
    assert await guarded(headers, **options) in {403, 421}

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert remedy in record.getMessage()


async def test_refusals_are_logged_at_a_bounded_rate_and_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    guard = OriginGuard(
        passed,
        hosts=AllowedHosts(["mcp.example"], scheme="https"),
        origins=AllowedOrigins([]),
        proxies=Peers([]),
        clock=lambda: now,
    )

    async def send(message: Message) -> None:
        assert message.get("status", 421) in {403, 421}

    async def receive() -> Message:
        raise AssertionError("read")

    for second in range(3):
        now = second * WARNING_INTERVAL_SECONDS
        for host in (b"evil\nINFO: all is well", b"x" * 10_000):
            said = [(b"host", host), (b"x-forwarded-host", b"mcp.example")]
            # Some servers take the client's address from X-Forwarded-For.
            client = (host.decode(), 0)
            scope = {"type": "http", "method": "GET", "headers": said, "client": client}
            await guard(scope, receive, send)
        headers = [(b"host", b"mcp.example"), (b"origin", b"https://evil.example")]
        await guard({"type": "http", "method": "GET", "headers": headers}, receive, send)

    assert len(caplog.records) == 6
    assert all("\n" not in it.getMessage() and len(it.getMessage()) < 700 for it in caplog.records)


ORIGINS = [
    *("app://obsidian.md", "null", "vscode-webview://0b1c2d", "chrome-extension://abcdefghij"),
    *("moz-extension://6f1b-11", "capacitor://localhost", "file://", "app://-"),
    "https://app.example",
]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_any_origin_can_be_allowed_by_name(origin: str) -> None:
    async with serving(allowed_origins=(origin,)) as endpoint:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answers = [
            await endpoint.post(initialize(), headers={"Origin": origin}),
            await endpoint.post(call("whoami"), session="unknown", headers={"Origin": origin}),
            await endpoint.http.get("/mcp", headers={"Origin": origin}),
            await endpoint.http.delete("/mcp", headers={"Origin": origin}),
            await endpoint.http.options("/mcp", headers=asked),
        ]
        others = [each for each in ORIGINS if each != origin]
        refused = [await endpoint.post(initialize(), headers={"Origin": other}) for other in others]

    for answer in answers:
        assert answer.status_code != 403
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
    assert {answer.status_code for answer in refused} == {403}
    assert not any("access-control-allow-origin" in answer.headers for answer in refused)


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://app.example:443", "https://app.example", 200),
        ("https://app.example", "https://app.example:443", 200),
        ("http://app.example:80", "http://app.example", 200),
        ("https://app.example:*", "https://app.example:8443", 200),
        ("https://app.example:*", "https://app.example", 200),
        ("app://x:*", "app://x:1", 200),
        ("app://x", "app://x:1", 403),
        ("https://app.example", "http://app.example", 403),
        ("https://app.example", "https://app.example:80", 403),
        ("https://app.example", "https://app.example.", 403),
        ("https://app.example", "https://app.example/", 403),
        ("https://app.example", "https://app.example:", 403),
        ("https://app.example", "https://user@app.example", 403),
        ("https://app.example", "https://app.example https://evil.example", 403),
        ("app://obsidian.md", "app://obsidian.md.evil.example", 403),
        ("app://obsidian.md", "https://obsidian.md", 403),
        ("app://obsidian.md", "app://obsidian.md/", 403),
        ("null", "NULL", 403),
        ("null", "", 403),
        ("null", "null, null", 403),
        ("file://", "null", 403),
        ("file://", "https://", 403),
    ],
)
async def test_allowed_origins(allowed: str, origin: str, status: int) -> None:
    headers = {"host": PUBLIC, "origin": origin}

    assert await guarded(headers, allowed_origins=[allowed]) == status


async def test_the_own_origin_has_a_default_port() -> None:
    headers = {"host": PUBLIC, "origin": "https://mcp.example:443"}

    assert await guarded(headers, resource="https://mcp.example/") == 200


@pytest.mark.parametrize(
    ("resource", "path", "metadata"),
    [
        ("https://mcp.example/mcp", "/mcp", "/mcp"),
        ("https://mcp.example/team/mcp", "/team/mcp", "/team/mcp"),
        ("https://mcp.example/team/mcp/", "/team/mcp", "/team/mcp"),
        ("https://mcp.example/team/%6dcp?tenant=1", "/team/mcp", "/team/mcp"),
        ("https://mcp.example", "", ""),
        ("https://mcp.example/", "", ""),
        ("https://mcp.example:443/", "", ""),
    ],
)
async def test_the_adapter_serves_at_the_path_of_its_resource(
    resource: str, path: str, metadata: str
) -> None:
    meeting = Meeting()
    configured = settings(resource=resource)
    resolver = MemoryResolver({"alice": principal("alice")}, resource=configured.resource)
    app = demo_app(resolver, meeting, resource=resource)
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, resolver, meeting)
        for each in {path or "/", f"{path}/"}:
            opened = await endpoint.post(initialize(), path=each)
            session = opened.headers["mcp-session-id"]
            called = await endpoint.post(call("public"), path=each, session=session)
            assert (opened.status_code, called.status_code) == (200, 200)
            assert (await http.get(each)).status_code == 405
            challenged = await endpoint.post(call("whoami"), path=each, session=session)
            assert challenged.status_code == 401
        named = challenged.headers["www-authenticate"].partition('resource_metadata="')[2]
        well_known = "/.well-known/oauth-protected-resource"
        assert named.startswith(f"https://mcp.example{well_known}{metadata}")
        for place in (f"{well_known}{metadata}", well_known):
            document = (await http.get(place)).json()
            assert document["resource"] == configured.resource
            assert document["authorization_servers"] == [ISSUER]
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        elsewhere = "/mcp" if path != "/mcp" else "/"
        assert (await endpoint.post(initialize(), path=elsewhere)).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": "https://mcp.example/healthz"},
        {"resource": "https://mcp.example/readyz/"},
        {"resource": "https://mcp.example/.well-known/oauth-protected-resource"},
        {"resource": "https://mcp.example/a%20b"},
        {"resource": "https://mcp.example/%7Bx%7D"},
        {"resource": "HTTPS://MCP.example/mcp"},
        {"allowed_hosts": ("*", "mcp.example.com")},
        {"allowed_hosts": ("*",), "trusted_proxies": ("10.0.0.7",)},
        {"allowed_hosts": ("MCP.example",)},
        {"trusted_proxies": ("proxy.example",)},
        {"trusted_proxies": ("unix",)},
        {"trusted_proxies": ("10.0.0.7/8",)},
        {"allowed_origins": ("*",)},
        {"keep_alive_seconds": 0},
    ],
)
def test_a_setting_that_could_have_no_effect_is_refused(changes: Mapping[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        settings(**changes)


NO_VERSIONS = ["2099-01-01", "2025-11", "latest", "", "2025-11-25, 2026-07-28", "2026-07-28 x"]


@pytest.mark.parametrize("named", NO_VERSIONS)
@pytest.mark.parametrize("session", [None, "unknown"])
@pytest.mark.parametrize("token", [None, "alice"])
async def test_an_unknown_revision_is_answered_with_those_that_are_known(
    named: str, session: str | None, token: str | None
) -> None:
    headers = {
        "MCP-Protocol-Version": named,
        **({"Mcp-Session-Id": session} if session else {}),
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    async with serving() as endpoint:
        answers = [
            await endpoint.post(initialize(), headers=headers),
            await endpoint.post(request("ping"), headers=headers),
            await endpoint.modern("server/discover", headers=headers),
            await endpoint.http.delete("/mcp", headers=headers),
        ]
        if session:
            assert not endpoint.resolver.calls

    for answer in answers:
        assert answer.status_code == 400
        assert all(version in answer.text for version in (LEGACY, MODERN, "2025-06-18"))
        assert "_meta" not in answer.text
        assert answer.json()["error"]["code"] == -32022


async def test_several_revisions_are_none() -> None:
    headers = [("MCP-Protocol-Version", LEGACY), ("MCP-Protocol-Version", MODERN)]
    async with serving() as endpoint:
        for method in ("POST", "DELETE"):
            answer = await endpoint.http.request(method, "/mcp", headers=headers, content=b"{}")
            assert answer.status_code == 400
            assert MODERN in answer.text
            assert LEGACY in answer.text


ROOT = "https://mcp.example"
SPELLINGS = [ROOT, f"{ROOT}/", f"{ROOT}:443", "HTTPS://MCP.Example:/"]
OTHERS = [f"{ROOT}//", f"{ROOT}:80", f"{ROOT}./", "http://mcp.example", f"{ROOT}/?"]
NONE = ["mcp.example", f"{ROOT}/#", f"https://user@{ROOT[8:]}", f"{ROOT}/%2F", ""]


@pytest.mark.parametrize("streams", [True, False])
async def test_two_spellings_of_a_resource_are_one_session(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, *, streams: bool
) -> None:
    tokens = [idp.token(aud=it) for it in SPELLINGS]
    configured = settings_for(tmp_path, idp, resources=(f"{ROOT}:443/",))
    async with serving_authsvc(configured, clock, streams=streams) as service:
        resolve = service.client.resolve
        answers = [
            await resolve("", token, resource=it)
            for it in SPELLINGS
            for token in (*tokens, tokens[0])
        ]
        token = tokens[0]
        created = await service.client.create(token, resource=SPELLINGS[-1])
        found = [await resolve(session_of(created), token, resource=it) for it in SPELLINGS]
        unknown = [await refused(resolve("", token, resource=it)) for it in OTHERS]
        malformed = [await refused(resolve("", token, resource=it)) for it in NONE]

    assert len({session_of(answer) for answer in answers}) == 1
    assert {answer.outcome for answer in found} == {found[0].outcome}
    assert {session_of(answer) for answer in found} == {session_of(created)}
    assert set(unknown) == {Reason.CALLER_NOT_ALLOWED}
    assert set(malformed) == {Reason.RESOURCE_INVALID}


def session_of(answer: Resolution) -> str:
    """The id of its session."""
    assert answer.session is not None
    return answer.session.id


async def refused(call: Awaitable[object]) -> Reason:
    """Why a call is refused."""
    with pytest.raises(AuthError) as caught:
        await call
    return caught.value.reason


@pytest.mark.parametrize(("one", "other"), [pair for pair in SAME if not resource_fault(pair[0])])
async def test_equivalent_resources_are_equal_everywhere(one: str, other: str) -> None:
    canonical = canonical_resource(one)
    caller = Caller("x", frozenset({canonical}))
    for named in (one, other):
        caller.authorize(named)
        assert caller.spelled(named) == canonical
        authority = re.split("[/?]", named.partition("://")[2])[0].removesuffix(":")
        headers = {"host": authority, "origin": f"{named.partition('://')[0]}://{authority}"}
        assert await guarded(headers, resource=canonical) == 200


@pytest.mark.parametrize(
    "resource", [f"{ROOT}:443/", f"{ROOT}/", f"{ROOT}:/", "https://mcp.example:0443"]
)
def test_every_setting_has_one_spelling(
    tmp_path: Path, idp: IdentityProvider, resource: str
) -> None:
    of_authsvc = settings_for(tmp_path, idp, resources=(resource,))

    assert settings(resource=resource).resource == ROOT
    assert of_authsvc.resources == (ROOT,)


@pytest.mark.parametrize(("one", "other"), SAME)
async def test_an_audience_is_one_in_any_spelling(
    tmp_path: Path, idp: IdentityProvider, one: str, other: str
) -> None:
    for accepted, named in ((one, other), (other, one)):
        verified = accepting(accepted, tmp_path, idp)
        for audience in (named, [named], ["api", "https://x.example/mcp", named]):
            await verified(idp.token(aud=audience))


@pytest.mark.parametrize(("one", "other"), [pair for pair in DIFFERENT if all(pair)])
async def test_another_audience_is_not(
    tmp_path: Path, idp: IdentityProvider, one: str, other: str
) -> None:
    for accepted, named in ((one, other), (other, one)):
        verified = accepting(accepted, tmp_path, idp)
        for audience in (named, [named], [named, "https://x.example"]):
            reason = await refused(verified(idp.token(aud=audience)))
            assert reason is Reason.TOKEN_AUDIENCE_MISMATCH


def accepting(
    audience: str, folder: Path, idp: IdentityProvider
) -> Callable[[str], Awaitable[object]]:
    """Verifies tokens for a resource whose audience is this one."""
    configured = settings_for(folder, idp).issuers[0]
    audiences = {RESOURCE: (audience,)}
    issuer = issuer_of(configured.model_copy(update={"audiences": audiences}))
    verifier = JwtVerifier([issuer])

    def verify(token: str) -> Awaitable[object]:
        return verifier.verify(BearerToken(token), resource=RESOURCE, now=idp.clock())

    return verify


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_resources_are_different_callers(one: str, other: str) -> None:
    for registered, named in ((one, other), (other, one)):
        if resource_fault(registered):
            continue
        caller = Caller("x", frozenset({canonical_resource(registered)}))
        with pytest.raises(AuthError):
            caller.authorize(named)


@pytest.mark.parametrize("table", ["issuers", "introspection"])
def test_a_table_by_resource_names_each_once(
    tmp_path: Path, idp: IdentityProvider, table: str
) -> None:
    secret = idp.write_secret(tmp_path)
    audiences = {"https://h.example": ("a",), "https://h.example:443/": ("b",)}
    issuer = {"issuer": idp.issuer, "algorithms": ["HS256"], "secret_file": secret}
    introspection = {
        "issuer": "https://opaque.example",
        "endpoint": "https://opaque.example/i",
        "client_id": "authsvc",
        "client_secret_file": secret,
    }
    wrong: dict[str, dict[str, Any]] = {
        "issuers": {"issuers": [{**issuer, "audiences": audiences}]},
        "introspection": {"introspection": {**introspection, "audiences": audiences}},
    }

    with pytest.raises(ValidationError, match=r"audiences[\s\S]*https://h.example' twice"):
        settings_for(tmp_path, idp, **wrong[table])


def test_keep_alive_outlives_a_proxy_of_a_minute() -> None:
    for program in (Settings, ConsoleSettings):
        assert program.model_fields["keep_alive_seconds"].default == 75.0
    assert HttpLimits().keep_alive_seconds == 75.0
