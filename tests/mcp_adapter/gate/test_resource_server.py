"""A resource server's duties, over HTTP, with real tokens and a real authsvc.

``docs/requirements.md`` says which requirement each of these tests holds.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from starlette.applications import Starlette

from authsvc.http_auth.metadata import WELL_KNOWN_PATH
from mcp_adapter import with_broader_scopes
from mcp_adapter.gate.metadata import metadata_routes
from mcp_adapter.server.app import build_app
from mcp_adapter.tools import Toolset
from mcp_adapter.tools.settings import S3Settings
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    ISSUER,
    METADATA_URL,
    RESOURCE,
    SCOPES,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_requirement,
    demo_server,
    request,
    running,
    said,
    settings,
)
from tests.support import stack
from tests.support.clock import Clock
from tests.support.service import serving, settings_for
from tests.support.tokens import OTHER_RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ERAS = ("2025-11-25", "2026-07-28")
ROOT_SCOPE = "things"


async def always() -> None:
    """Ready."""


@pytest.fixture
async def server(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Endpoint]:
    """The demo server behind a gate that asks a real authsvc; ``things`` implies both scopes."""
    async with serving(settings_for(tmp_path, idp), clock) as service:
        app = build_app(
            settings(),
            demo_server(Meeting()),
            resolver=service.client,
            ready=always,
            requirement=with_broader_scopes(demo_requirement, {ROOT_SCOPE: SCOPES}),
            scopes=SCOPES,
        )
        async with (
            running(app) as url,
            httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
        ):
            yield Endpoint(http, MemoryResolver(), Meeting())


async def called(
    server: Endpoint,
    era: str,
    token: str | None,
    tool: str = "whoami",
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """A tool call; in a session of its own, where the revision has sessions."""
    if era == "2026-07-28":
        params = {"name": tool, "arguments": {}}
        return await server.modern("tools/call", params, token=token, headers=headers)
    session = await server.open()
    return await server.post(call(tool), session=session, token=token, headers=headers)


@dataclass(frozen=True)
class Challenge:
    """A ``WWW-Authenticate`` header, taken apart by the grammar of RFC 9110 section 11.2."""

    scheme: str
    parameters: list[tuple[str, str]]

    @classmethod
    def of(cls, response: httpx2.Response) -> Challenge:
        (value,) = response.headers.get_list("www-authenticate")
        scheme, _, rest = value.partition(" ")
        parameters = re.findall(r'([a-z_]+)="([^"\\]*)"', rest)
        assert rest == ", ".join(f'{name}="{text}"' for name, text in parameters)
        return cls(scheme, parameters)

    def __getitem__(self, name: str) -> str:
        return dict(self.parameters)[name]


# Tokens that are served, and tokens that are not


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("audience", [RESOURCE, [RESOURCE], [OTHER_RESOURCE, RESOURCE]])
async def test_a_token_for_this_server_is_served(
    server: Endpoint, idp: IdentityProvider, era: str, audience: object
) -> None:
    token = idp.token(aud=audience, scope="things.read")

    assert said(await called(server, era, token)) == "alice"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "audience",
    [
        None,
        OTHER_RESOURCE,
        [OTHER_RESOURCE],
        RESOURCE + "/",
        RESOURCE.removesuffix("/mcp"),
        RESOURCE.upper(),
        f"{OTHER_RESOURCE} {RESOURCE}",
        "*",
    ],
)
async def test_a_token_for_anything_else_is_not(
    server: Endpoint, idp: IdentityProvider, era: str, audience: object
) -> None:
    response = await called(server, era, idp.token(aud=audience, scope="things.read"))

    assert response.status_code == 401
    assert Challenge.of(response)["error"] == "invalid_token"
    assert response.json()["error"]["data"] == {"reason": "TOKEN_AUDIENCE_MISMATCH"}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "fault", ["expired", "early", "forged", "foreign issuer", "unsigned", "opaque", "no subject"]
)
async def test_an_invalid_token_is_a_401(
    server: Endpoint, idp: IdentityProvider, clock: Clock, era: str, fault: str
) -> None:
    stranger = IdentityProvider(clock, "https://stranger.example")
    token = {
        "expired": idp.token(ttl_seconds=-60),
        "early": idp.token(nbf=clock() + 3600),
        "forged": idp.forged(),
        "foreign issuer": stranger.token(),
        "unsigned": idp.token().rpartition(".")[0] + ".",
        "opaque": "2YotnFZFEjr1zCsicMWpAA",
        "no subject": idp.token(sub=None),
    }[fault]

    response = await called(server, era, token)

    assert response.status_code == 401
    assert Challenge.of(response)["error"] == "invalid_token"
    assert Challenge.of(response)["resource_metadata"] == METADATA_URL
    assert token not in response.text + str(response.headers)


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_has_to_come_with_every_request(
    server: Endpoint, idp: IdentityProvider, era: str
) -> None:
    token = idp.token(scope="things.read")
    session = await server.open(token) if era == "2025-11-25" else None

    async def attempt(presented: str | None) -> httpx2.Response:
        if session is None:
            return await called(server, era, presented)
        return await server.post(call("whoami"), session=session, token=presented)

    answers = [await attempt(presented) for presented in (token, None, token)]

    assert [answer.status_code for answer in answers] == [200, 401, 200]


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_is_read_from_the_header_alone(
    server: Endpoint, idp: IdentityProvider, era: str
) -> None:
    token = idp.token(scope="things.read")
    form = {"access_token": token}

    cookie = await called(server, era, None, headers={"Cookie": f"access_token={token}"})
    other = await called(server, era, None, headers={"X-Access-Token": token})
    query = await server.post(
        call("whoami"), session=await server.open(), path=f"/mcp?access_token={token}"
    )
    body = await server.http.post("/mcp", data=form, headers={"MCP-Protocol-Version": era})

    assert (cookie.status_code, other.status_code, query.status_code) == (401, 401, 401)
    assert body.status_code == 415


async def test_another_scheme_is_challenged_without_an_error(server: Endpoint) -> None:
    headers = {"Authorization": "Basic YWxpY2U6c2VjcmV0"}

    response = await called(server, "2026-07-28", None, headers=headers)

    assert response.status_code == 401
    assert [name for name, _ in Challenge.of(response).parameters] == ["resource_metadata", "scope"]


async def test_white_space_around_a_header_is_no_part_of_it(
    server: Endpoint, idp: IdentityProvider
) -> None:
    """On the wire, byte by byte: HTTP clients take it away before they send."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "whoami", "arguments": {}, "_meta": meta}
    body = json.dumps(request("tools/call", params)).encode()
    lines = [
        "POST /mcp HTTP/1.1",
        "Host:  127.0.0.1  ",
        "Connection: close",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        f"Content-Length: {len(body)}",
        "MCP-Protocol-Version: \t 2026-07-28 \t ",
        "Mcp-Method:   tools/call   ",
        "Mcp-Name: \t  whoami  \t",
        f"Authorization:   Bearer   {idp.token(scope='things.read')}  \t",
    ]
    async with await anyio.connect_tcp(
        server.http.base_url.host, server.http.base_url.port or 0
    ) as wire:
        await wire.send("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        with anyio.fail_after(DEADLINE_SECONDS), contextlib.suppress(anyio.EndOfStream):
            while True:
                answer += await wire.receive()

    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    assert json.loads(content)["result"]["content"][0]["text"] == "alice"


# Challenges


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("case", "status", "error"),
    [
        ("no token", 401, None),
        ("bad token", 401, "invalid_token"),
        ("narrow token", 403, "insufficient_scope"),
        ("two headers", 400, "invalid_request"),
    ],
)
async def test_a_challenge_is_well_formed(
    server: Endpoint, idp: IdentityProvider, era: str, case: str, status: int, error: str | None
) -> None:
    narrow = idp.token(scope="things.read")
    if case == "two headers":
        pairs = [("Authorization", f"Bearer {narrow}")] * 2
        kind = [("Content-Type", "application/json"), ("MCP-Protocol-Version", era)]
        response = await server.http.post("/mcp", content=b"{}", headers=[*pairs, *kind])
    else:
        token = {"no token": None, "bad token": idp.forged(), "narrow token": narrow}[case]
        response = await called(server, era, token, "write")

    challenge = Challenge.of(response)
    names = [name for name, _ in challenge.parameters]
    assert response.status_code == status
    assert challenge.scheme == "Bearer"
    assert len(names) == len(set(names))
    assert challenge["resource_metadata"] == METADATA_URL
    assert dict(challenge.parameters).get("error") == error
    assert ("error_description" in names) == (error is not None)
    for name, value in challenge.parameters:
        assert re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+", value), name
    for scope in dict(challenge.parameters).get("scope", "").split():
        assert re.fullmatch(r"[\x21\x23-\x5B\x5D-\x7E]+", scope)


@pytest.mark.parametrize("era", ERAS)
async def test_one_challenge_names_all_scopes_of_the_request(
    server: Endpoint, idp: IdentityProvider, era: str
) -> None:
    none = await called(server, era, None, "write")
    some = await called(server, era, idp.token(scope="things.read"), "write")
    other = await called(server, era, idp.token(scope="unheard.of"), "write")

    assert [answer.status_code for answer in (none, some, other)] == [401, 403, 403]
    for answer in (none, some, other):
        assert Challenge.of(answer)["scope"] == " ".join(SCOPES)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ("things.read things.write", 200),
        (ROOT_SCOPE, 200),
        ("things.write", 403),
        ("THINGS", 403),
        ("thing", 403),
    ],
)
async def test_a_broader_scope_is_enough(
    server: Endpoint, idp: IdentityProvider, era: str, scope: str, status: int
) -> None:
    response = await called(server, era, idp.token(scope=scope), "write")

    assert response.status_code == status


def test_the_adapters_settings_name_broader_scopes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idp = IdentityProvider(time.time)
    idp.write_secret(tmp_path)
    for role in stack.ROLES:
        (tmp_path / f"{role}.key").write_text("secret")
    monkeypatch.setenv("MCP_ADAPTER_IMPLIED_SCOPES", '{"all": ["buckets.read"]}')
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "discover_buckets", "arguments": {}, "_meta": meta}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "discover_buckets",
    }
    with ExitStack() as running_processes:
        _, authsvc = stack.start_authsvc(tmp_path, running_processes)
        _, url = stack.start_adapter(
            tmp_path, running_processes, authsvc=authsvc, s3="http://127.0.0.1:9"
        )
        statuses = {
            scope: httpx2.post(
                f"{url}/mcp",
                json=request("tools/call", params),
                headers={
                    **headers,
                    "Authorization": f"Bearer {idp.token(aud=stack.RESOURCE, scope=scope)}",
                },
                timeout=DEADLINE_SECONDS,
            ).status_code
            for scope in ("buckets.read", "all", "most")
        }

    assert statuses == {"buckets.read": 200, "all": 200, "most": 403}


@pytest.mark.parametrize("era", ERAS)
async def test_refusals_are_kept_by_no_cache(
    server: Endpoint, idp: IdentityProvider, era: str
) -> None:
    for token, tool in ((None, "whoami"), (idp.forged(), "whoami"), (idp.token(), "write")):
        response = await called(server, era, token, tool)

        assert response.status_code in {401, 403}
        assert response.headers["cache-control"] == "no-store"


# Metadata


@pytest.mark.parametrize("era", ERAS)
async def test_a_challenge_leads_to_the_metadata(server: Endpoint, era: str) -> None:
    challenged = await called(server, era, None)

    location = urlsplit(Challenge.of(challenged)["resource_metadata"])
    metadata = await server.http.get(location.path)

    assert (location.scheme, location.netloc) == urlsplit(RESOURCE)[:2]
    assert location.path == WELL_KNOWN_PATH + urlsplit(RESOURCE).path
    assert (metadata.status_code, metadata.headers["content-type"]) == (200, "application/json")
    assert metadata.json()["resource"] == RESOURCE
    assert metadata.json()["authorization_servers"] == [ISSUER]


async def test_metadata_without_scopes_has_no_member_for_them() -> None:
    routes = metadata_routes(RESOURCE, authorization_servers=[ISSUER], scopes=())
    async with (
        running(Starlette(routes=[*routes])) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        document = (await http.get(WELL_KNOWN_PATH)).json()

    assert "scopes_supported" not in document
    assert all(document.values())


async def test_no_challenge_asks_for_offline_access() -> None:
    async with Toolset.default(S3Settings()) as tools:
        assert tools.scopes
        assert "offline_access" not in tools.scopes


# Sessions


async def test_session_ids_are_visible_ascii_and_not_to_be_guessed(server: Endpoint) -> None:
    session_ids = [await server.open() for _ in range(20)]

    assert len(set(session_ids)) == len(session_ids)
    for session_id in session_ids:
        assert re.fullmatch(r"[\x21-\x7E]{22,}", session_id)  # 128 bits are 22 of base64
    for place in range(22):
        assert len({session_id[place] for session_id in session_ids}) > 1


async def test_a_session_answers_to_its_owner_alone(
    server: Endpoint, idp: IdentityProvider
) -> None:
    session = await server.open(idp.token(scope="things.read"))

    stranger = await server.post(call("whoami"), session=session, token=idp.token("mallory"))
    owner = await server.post(
        call("whoami"), session=session, token=idp.token(scope="things.read", jti="2")
    )

    assert stranger.status_code == 404
    assert said(owner) == "alice"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", ["tools/list", "ping", "initialize"])
async def test_a_rejected_token_opens_no_session(
    server: Endpoint, idp: IdentityProvider, era: str, method: str
) -> None:
    for token in (idp.forged(), idp.token(aud=OTHER_RESOURCE)):
        if era == "2026-07-28":
            response = await server.modern(method, token=token)
        else:
            session = await server.open()
            response = await server.post(request(method), session=session, token=token)

        assert response.status_code == 401
        assert "result" not in response.json()
