"""What a client sends besides its request: headers that only a gateway may set, and two readings of
one request. None of it makes the upstream take somebody for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.gateways.deployed import Configuration, ext_authz_of, manager_of
from tests.gateways.harness import Gateway, said, serving
from tests.gateways.upstreams import ASSERTION
from tests.mcp_adapter.harness import (
    LEGACY,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    initialize,
    opened,
    request,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http_server import Peer

pytestmark = pytest.mark.anyio

Headers = Sequence[tuple[str, str]]

OURS = (
    *("x-authsvc-assertion", "X-Authsvc-Assertion", "X-AUTHSVC-ASSERTION"),
    *("x-authsvc-credentials", "X-Authsvc-Subject", "x-authsvc-", "x.authsvc.assertion"),
)
UNDERSCORED = (
    *("x_authsvc_assertion", "X_AUTHSVC_ASSERTION", "x-authsvc_assertion", "x_authsvc-assertion"),
    *("x_authsvc_credentials", "x_authsvc-anything"),
)
"""Spellings that some servers read as ``x-authsvc-assertion``: CGI's variables have no hyphen."""


def underscores_allowed(configuration: Configuration) -> None:
    """Envoy as it is by default, and Check alone between these spellings and the upstream."""
    del manager_of(configuration)["common_http_protocol_options"]["headers_with_underscores_action"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("smuggling")
    with serving("sdk-stateful", folder, change=underscores_allowed) as running:
        yield running


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Envoy as it is deployed."""
    with serving("sdk-stateful", tmp_path_factory.mktemp("deployed")) as running:
        yield running


def headers_unseen(configuration: Configuration) -> None:
    """Envoy sends Check the headers that are listed, as other gateways do by default."""
    seen = ["authorization", "content-type", "content-length", "mcp-session-id"]
    patterns = [{"exact": name} for name in [*seen, "mcp-protocol-version"]]
    ext_authz_of(configuration)["allowed_headers"] = {"patterns": patterns}


@pytest.fixture
async def assertion(client: Endpoint, gateway: Gateway) -> str:
    """A valid assertion of a victim, which has leaked."""
    session = await opened(client)
    answer = await client.post(call("whoami"), session=session, token=gateway.token("victim"))
    assert said(answer)["sub"] == "victim"
    (leaked,) = gateway.seen[-1].values(ASSERTION)
    gateway.seen.clear()
    return leaked


async def posted(
    client: Endpoint, message: object, headers: Headers, *, version: str | None = LEGACY
) -> httpx2.Response:
    """A POST with these headers besides, in their order and their spelling."""
    fixed = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        *([("MCP-Protocol-Version", version)] if version else []),
    ]
    content = json.dumps(message).encode()
    return await client.http.post("/mcp", content=content, headers=[*fixed, *headers])


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def is_ours(name: str) -> bool:
    return name.replace("_", "-").replace(".", "-").startswith("x-authsvc")


@pytest.mark.parametrize("name", [*OURS, *UNDERSCORED])
async def test_nobody_brings_an_identity(
    client: Endpoint, gateway: Gateway, assertion: str, name: str
) -> None:
    """An open message without a token: the upstream gets nothing that looks like an assertion."""
    for forged in ([(name, assertion)], [(name, assertion), (name, "x")]):
        gateway.seen.clear()
        answer = await posted(client, initialize(), forged, version=None)
        assert answer.status_code == 200
        (seen,) = gateway.seen
        assert not [each for each, _ in seen.headers if is_ours(each)]


@pytest.mark.parametrize("name", [*OURS, *UNDERSCORED])
async def test_nobody_brings_another_identity_than_theirs(
    client: Endpoint, gateway: Gateway, assertion: str, name: str
) -> None:
    session = await opened(client)
    for forged in ([(name, assertion)], [(name, assertion), (name, assertion)]):
        gateway.seen.clear()
        mine = [("Mcp-Session-Id", session), bearer(gateway.token("mallory"))]
        for headers in (forged + mine, mine + forged):
            assert said(await posted(client, call("whoami"), headers))["sub"] == "mallory"
        for seen in gateway.seen:
            assert [each for each, _ in seen.headers if is_ours(each)] == [ASSERTION]
            assert seen.values(ASSERTION) != [assertion]


async def test_an_identity_that_check_is_not_shown(tmp_path: Path) -> None:
    with serving("sdk-stateful", tmp_path, change=headers_unseen) as gateway:
        async with gateway.client() as client:
            session = await opened(client)
            gateway.seen.clear()
            forged = [("x-authsvc-assertion", "x"), ("x-authsvc-credentials", "x")]
            mine = [("Mcp-Session-Id", session), bearer(gateway.token())]
            assert (await posted(client, initialize(), forged, version=None)).status_code == 200
            assert said(await posted(client, call("whoami"), [*forged, *mine]))["sub"] == "alice"
        nobodys, mine_seen = gateway.seen
        assert not [each for each, _ in nobodys.headers if is_ours(each)]
        assert [each for each, _ in mine_seen.headers if is_ours(each)] == [ASSERTION]


@pytest.mark.parametrize("name", [*UNDERSCORED, "mcp_session_id"])
async def test_envoy_as_it_is_deployed_knows_no_underscores(deployed: Gateway, name: str) -> None:
    deployed.seen.clear()
    async with deployed.client() as client:
        answer = await posted(client, initialize(), [(name, "x")], version=None)
    assert answer.status_code == 400
    assert not deployed.seen


async def test_a_client_names_no_header_for_removal(client: Endpoint, gateway: Gateway) -> None:
    """RFC 9110 section 7.6.1 has proxies remove what Connection names."""
    session = await opened(client)
    gateway.seen.clear()
    mine = [("Mcp-Session-Id", session), bearer(gateway.token())]
    for named in (ASSERTION, f"close, {ASSERTION}", "authorization", "mcp-session-id"):
        answer = await posted(client, call("whoami"), [*mine, ("Connection", named)])
        assert answer.status_code in {400, 401} or said(answer)["sub"] == "alice"
    for seen in gateway.seen:
        assert len(seen.values(ASSERTION)) == 1
        assert not seen.values("authorization")


async def test_what_is_one_and_comes_twice_is_refused(client: Endpoint, gateway: Gateway) -> None:
    session, other = await opened(client), await opened(client)
    gateway.seen.clear()
    alice, bob = bearer(gateway.token()), bearer(gateway.token("bob"))
    named, another = ("Mcp-Session-Id", session), ("Mcp-Session-Id", other)
    version = ("MCP-Protocol-Version", "2025-06-18")
    for headers in (
        [named, alice, bob],
        [named, alice, alice],
        [named, ("Authorization", f"{alice[1]}, {bob[1]}")],
        [named, another, alice],
        [named, named, alice],
        [named, alice, version],
    ):
        assert (await posted(client, call("whoami"), headers)).status_code == 400, headers
    assert not gateway.seen

    # A list is one value, and so an id of its own, which the upstream does not know.
    listed = ("Mcp-Session-Id", f"{session},{other}")
    assert (await posted(client, call("whoami"), [listed, alice])).status_code == 404
    assert [seen.values("mcp-session-id") for seen in gateway.seen] == [[listed[1]]]


async def test_a_connection_is_of_http_alone(client: Endpoint, gateway: Gateway) -> None:
    for protocol, connection in (
        ("h2c", "Upgrade, HTTP2-Settings"),
        ("websocket", "Upgrade"),
        ("x", "Upgrade"),
    ):
        upgrade = [
            ("Upgrade", protocol),
            ("Connection", connection),
            ("HTTP2-Settings", "AAMAAABk"),
        ]
        answer = await posted(client, initialize(), upgrade, version=None)
        assert answer.status_code in {200, 403}
    for seen in gateway.seen:
        assert not {"upgrade", "http2-settings"} & {name for name, _ in seen.headers}


async def test_http_2(gateway: Gateway) -> None:
    """Without a length, and with headers of ours in each spelling."""
    transport = httpx2.AsyncHTTPTransport(http1=False, http2=True)
    async with httpx2.AsyncClient(
        transport=transport, base_url=gateway.origin, timeout=TIMEOUT_SECONDS
    ) as http:
        client = Endpoint(http, MemoryResolver(), Meeting())
        session = await opened(client)
        gateway.seen.clear()

        async def body() -> AsyncIterator[bytes]:
            yield json.dumps(call("whoami")).encode()

        headers = [
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-session-id", session),
            bearer(gateway.token()),
        ]
        for more in ([], [(ASSERTION, "x")], [("x_authsvc_assertion", "x")]):
            answer = await http.post("/mcp", content=body(), headers=[*headers, *more])
            assert answer.http_version == "HTTP/2"
            assert said(answer)["sub"] == "alice"
        for seen in gateway.seen:
            assert [each for each, _ in seen.headers if is_ours(each)] == [ASSERTION]
        for twice in (bearer(gateway.token("bob")), ("mcp-session-id", "other")):
            answer = await http.post("/mcp", content=body(), headers=[*headers, twice])
            assert answer.status_code == 400
        assert (await http.post("/mcp", content=body(), headers=headers[:2])).status_code == 401


@pytest.mark.parametrize(
    "name",
    ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override"],
)
async def test_a_request_has_the_method_that_was_authorised(
    client: Endpoint, gateway: Gateway, name: str
) -> None:
    session = await opened(client)
    gateway.seen.clear()
    headers = [("Mcp-Session-Id", session), (name, "DELETE")]
    assert (await posted(client, request("tools/list"), headers)).status_code == 200
    (seen,) = gateway.seen
    assert not [each for each, _ in seen.headers if "method" in each]


@pytest.mark.parametrize("name", ["mcp_session_id", "Mcp_Session_Id", "mcp-session_id"])
async def test_a_session_has_one_spelling(client: Endpoint, gateway: Gateway, name: str) -> None:
    victims, mine = await opened(client), await opened(client)
    answer = await client.post(call("whoami"), session=victims, token=gateway.token("victim"))
    assert said(answer)["sub"] == "victim"
    gateway.seen.clear()

    headers = [("Mcp-Session-Id", mine), bearer(gateway.token("mallory")), (name, victims)]
    answer = await posted(client, call("whoami"), headers)
    assert answer.status_code == 400 or said(answer)["sub"] == "mallory"
    for seen in gateway.seen:
        assert victims not in {value for _, value in seen.headers}


@pytest.mark.parametrize(
    "path", ["/healthz/../mcp", "/healthz/..%2fmcp", "//mcp", "/healthz/./mcp"]
)
async def test_an_open_path_leads_nowhere_else(deployed: Gateway, path: str) -> None:
    deployed.seen.clear()
    body = json.dumps(call("whoami")).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host_of(deployed)}\r\nContent-Length: {len(body)}\r\n"
    async with await connected(deployed) as peer:
        await peer.send(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        status, _ = await peer.answer()
    assert status in {400, 401, 404}
    assert not deployed.seen


@pytest.mark.parametrize("path", ["/mcp/../mcp", "/healthz/../mcp", "/mcp/./", "//mcp", "/mcp//"])
async def test_the_path_that_is_authorised_is_served(deployed: Gateway, path: str) -> None:
    deployed.seen.clear()
    body = json.dumps(initialize()).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host_of(deployed)}\r\nContent-Length: {len(body)}\r\n"
    async with await connected(deployed) as peer:
        await peer.send(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        await peer.head()
    assert {seen.path for seen in deployed.seen} == {"/mcp/" if path.endswith("/") else "/mcp"}


# Where does a body end?

FRAMINGS = (
    ["Transfer-Encoding: chunked", "Content-Length: {length}"],
    ["Content-Length: {length}", "Transfer-Encoding: chunked"],
    ["Content-Length: {length}", "Transfer-Encoding: xchunked"],
    ["Content-Length: {length}", "Transfer-Encoding: identity, chunked"],
    ["Content-Length: {length}", "Transfer-Encoding:\tchunked"],
    ["Content-Length: {length}", "Transfer_Encoding: chunked"],
    ["Content-Length: {length}", "X: a\nTransfer-Encoding: chunked"],
    ["Content-Length: {length}", "Transfer-Encoding : chunked"],
    ["Content-Length: {length}", "Content-Length: 5"],
    ["Content-Length: 5", "Content-Length: {length}"],
    ["Content-Length: {length}, 5"],
    ["Content-Length: +{length}"],
    ["Transfer-Encoding: chunked, chunked"],
)
"""Ways to say where a body ends that two readers could take for two places."""


async def framed(gateway: Gateway, framing: list[str], body: bytes) -> bytes:
    """All that Envoy answers to a request whose body is framed so."""
    lines = [line.format(length=len(body)) for line in framing]
    head = ["POST /mcp HTTP/1.1", f"Host: {host_of(gateway)}", "Content-Type: application/json"]
    accept = "Accept: application/json, text/event-stream"
    async with await connected(gateway) as peer:
        text = "\r\n".join([*head, accept, *lines, "Connection: close", "", ""])
        await peer.send(text.encode() + body)
        return await peer.rest()


@pytest.mark.parametrize("which", ["gateway", "deployed"])
async def test_no_request_hides_in_the_body_of_another(
    request: pytest.FixtureRequest, which: str
) -> None:
    """Chunks that end at once, and behind them a request that needs a token."""
    gateway: Gateway = request.getfixturevalue(which)
    gateway.seen.clear()
    hidden = json.dumps(call("whoami")).encode()
    head = f"POST /mcp HTTP/1.1\r\nHost: {host_of(gateway)}\r\nX-Authsvc-Assertion: x\r\n"
    inner = head.encode() + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden
    body = b"0\r\n\r\n" + inner
    answers = await asyncio.gather(*(framed(gateway, it, body) for it in FRAMINGS))
    for framing, answer in zip(FRAMINGS, answers, strict=True):
        assert b" 200 " not in answer, framing
    assert not gateway.seen


@pytest.mark.parametrize("which", ["gateway", "deployed"])
async def test_an_upstream_has_one_way_to_read_a_body(
    request: pytest.FixtureRequest, which: str
) -> None:
    gateway: Gateway = request.getfixturevalue(which)
    gateway.seen.clear()
    body = json.dumps(initialize()).encode()
    answers = await asyncio.gather(*(framed(gateway, it, body) for it in FRAMINGS))
    served = sum(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert len(gateway.seen) == served < len(FRAMINGS)
    for seen in gateway.seen:
        assert seen.values("content-length") == [str(len(body))]
        names = {name.replace("_", "-") for name, _ in seen.headers}
        assert "transfer-encoding" not in names


def host_of(gateway: Gateway) -> str:
    return urlsplit(gateway.resource).netloc


async def connected(gateway: Gateway) -> Peer:
    """A connection to Envoy."""
    url = urlsplit(gateway.resource)
    return Peer(*await asyncio.open_connection(url.hostname, url.port))
