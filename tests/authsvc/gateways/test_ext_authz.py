"""Envoy's Check over gRPC: what is open, what is demanded, and what upstream and client get."""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from authsvc.assertions.signer import Assertions
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Resolution, Secret
from authsvc.gateways.upstream_headers import encoded_credentials
from authsvc.resolver.resolver import SessionResolver
from authsvc.telemetry.spans import NoTracing
from mcp_adapter.gate.middleware import DEFAULT_MAX_BODY_BYTES
from tests.support.checks import (
    MODERN,
    Answer,
    Behind,
    Gateway,
    gateway_of,
    request,
    rpc,
    serving_gateways,
    status_of,
    tool_call,
    with_gateways,
)
from tests.support.clock import Clock
from tests.support.named_broker import NamedBroker
from tests.support.scraping import scrape
from tests.support.service import serving, settings_for
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

METADATA = "https://mcp.example/.well-known/oauth-protected-resource/mcp"

ROUTE = {
    "resource": RESOURCE,
    "scopes": ["objects.read"],
    "tools": {"delete": ["objects.write"], "list": ["buckets.read"]},
    "authorization_servers": [ISSUER],
}

Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Start]:
    """Starts an authsvc with the given route of RESOURCE, and gives its gateway."""
    async with AsyncExitStack() as running:

        async def started(route: Mapping[str, object] | None = None, **changes: object) -> Gateway:
            routes = () if route is None else ({"resource": RESOURCE, **route},)
            tables: dict[str, Any] = {**with_gateways(*routes), **changes}
            settings = settings_for(tmp_path, idp, **tables)
            behind: Behind = await running.enter_async_context(serving_gateways(settings, clock))
            return behind.gateway

        yield started


def subject(answer: Answer) -> str:
    """Whom the upstream is told of; empty for nobody."""
    assert answer.allowed, answer
    if not answer.assertion:
        assert "x-authsvc-assertion" in answer.removed
        return ""
    assert "x-authsvc-assertion" not in answer.removed
    claims = jwt.decode(answer.assertion, options={"verify_signature": False})
    return str(claims["sub"])


def challenge(answer: Answer) -> str:
    return answer.headers["www-authenticate"]


def denied_callers(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The gateways that were audited as denied."""
    events = [it.__dict__ for it in caplog.records if it.name == "authsvc.security"]
    return [str(it["caller"]) for it in events if it["event_type"] == "CALLER_DENIED"]


# What needs a token, and which scopes


@pytest.mark.parametrize(
    "method",
    ["initialize", "ping", "tools/list", "prompts/list", "resources/list", "notifications/x"],
)
async def test_open_methods_need_no_token(start: Start, method: str) -> None:
    gateway = await start()
    answer = await gateway.post(rpc(method))
    assert subject(answer) == ""
    assert answer.metadata == {"resource": RESOURCE, "method": method, "outcome": "anonymous"}


@pytest.mark.parametrize("method", ["tools/call", "resources/read", "unknown", "Ping", ""])
async def test_other_methods_need_one(start: Start, method: str) -> None:
    gateway = await start(ROUTE)
    answer = await gateway.post(rpc(method, {"name": "read"}))
    assert answer.status == 401
    assert challenge(answer) == (f'Bearer resource_metadata="{METADATA}", scope="objects.read"')
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": 401, "message": "This request needs an access token."},
    }


async def test_open_methods_of_the_route_replace_the_defaults(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start({"open_methods": ["resources/read"]})
    assert subject(await gateway.post(rpc("resources/read"))) == ""
    assert (await gateway.post(rpc("ping"))).status == 401
    assert subject(await gateway.post(rpc("ping"), token=idp.token())) == "alice"
    assert subject(await gateway.post(rpc("notifications/x"))) == ""


async def test_without_authorization_servers_challenges_name_no_metadata(start: Start) -> None:
    gateway = await start({"scopes": ["a"]})
    assert challenge(await gateway.post(tool_call())) == 'Bearer scope="a"'


@pytest.mark.parametrize(
    ("tool", "held", "needed"),
    [
        ("read", "objects.read", ""),
        ("read", "buckets.read", "objects.read"),
        ("list", "objects.read buckets.read", ""),
        ("list", "objects.read", "objects.read buckets.read"),
        ("list", "buckets.read", "objects.read buckets.read"),
        ("delete", "objects.read buckets.read", "objects.read objects.write"),
        ("delete", "objects.read objects.write", ""),
    ],
)
async def test_a_tool_needs_its_scopes_and_the_routes(
    start: Start, idp: IdentityProvider, tool: str, held: str, needed: str
) -> None:
    gateway = await start(ROUTE)
    answer = await gateway.post(tool_call(tool), token=idp.token(scope=held))
    if not needed:
        assert subject(answer) == "alice"
        assert answer.metadata["tool"] == tool
        return
    assert answer.refusal == (403, "INSUFFICIENT_SCOPE")
    assert f'scope="{needed}"' in challenge(answer)
    assert 'error="insufficient_scope"' in challenge(answer)
    assert answer.metadata == {
        "resource": RESOURCE,
        "issuer": ISSUER,
        "subject": "alice",
        "client_id": "client",
        "scopes": held.split(),
        "session": answer.metadata["session"],
        "outcome": "created",
        "method": "tools/call",
        "tool": tool,
        "reason": "INSUFFICIENT_SCOPE",
    }


async def test_a_tool_with_scopes_needs_them_where_calls_are_open(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start({**ROUTE, "open_methods": ["tools/call"]})
    assert subject(await gateway.post(tool_call("read"))) == ""
    assert (await gateway.post(tool_call("delete"))).status == 401
    answer = await gateway.post(tool_call("delete"), token=idp.token(scope="objects.write"))
    assert answer.status == 403


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "Delete"}),
        ("tools/call", {"name": " delete\t"}),
        ("tools/call", {"name": "\uff44elete"}),
        ("Tools/Call", {"name": "delete"}),
        ("tools/call ", {"name": "delete"}),
        ("tools/call", {"arguments": {}}),
        ("tools/call", {"name": ["delete"]}),
        ("tools/call", ["delete", {}]),
        ("tools/call", None),
    ],
)
async def test_a_call_that_a_server_may_read_as_one_of_a_tool_needs_its_scopes(
    start: Start, idp: IdentityProvider, method: str, params: object
) -> None:
    """Servers in other languages ignore case, or take params by their position."""
    gateway = await start({**ROUTE, "scopes": []})
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = await gateway.post(call, token=idp.token(scope="objects.read"))
    assert answer.refusal == (403, "INSUFFICIENT_SCOPE")
    held = idp.token(scope="objects.write buckets.read")
    assert subject(await gateway.post(call, token=held)) == "alice"


async def test_tools_of_one_name_but_for_its_case_need_the_scopes_of_both(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start({"tools": {"delete": ["a"], "Delete": ["b"]}})
    for tool in ("delete", "Delete"):
        assert (await gateway.post(tool_call(tool), token=idp.token(scope="a"))).status == 403
        assert (await gateway.post(tool_call(tool), token=idp.token(scope="a b"))).allowed


async def test_a_batch_within_a_batch_is_refused(start: Start, idp: IdentityProvider) -> None:
    gateway = await start(ROUTE)
    for token in ("", idp.token(scope="objects.read")):
        answer = await gateway.post([[tool_call("delete")]], token=token, version="2025-03-26")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, -32600)


async def test_a_batch_needs_what_all_its_messages_need(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start(ROUTE)
    batch = [rpc("ping"), tool_call("read"), tool_call("delete")]
    version = {"version": "2025-03-26"}
    for scopes, status in (("objects.read", 403), ("objects.read objects.write", 0)):
        answer = await gateway.post(batch, token=idp.token(scope=scopes), **version)
        assert answer.status == status
    assert (await gateway.post(batch, token=idp.token())).status == 400


# Requests that are refused for what they are


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "request_id"),
    [
        (b"{", [], 400, -32700, None),
        (b'{"a":1,"a":2}', [], 400, -32700, None),
        (b"", [], 400, -32700, None),
        (b"1", [], 400, -32600, None),
        ({"id": 7, "method": 1}, [], 400, -32600, None),
        (rpc("ping") | {"Method": "tools/call"}, [], 400, -32600, 1),
        (
            rpc("ping"),
            [("authorization", "Bearer a"), ("authorization", "Bearer b")],
            400,
            -32600,
            1,
        ),
        (rpc("ping"), [("mcp-session-id", "a"), ("mcp-session-id", "b")], 400, -32600, 1),
        (rpc("ping"), [("content-type", "text/plain")], 400, -32600, 1),
        (rpc("ping"), [("content-encoding", "gzip")], 415, 415, 1),
        (rpc("ping"), [("mcp-protocol-version", "1999-01-01")], 400, -32022, 1),
    ],
)
@pytest.mark.parametrize("as_map", [False, True])
async def test_a_request_that_can_be_read_in_two_ways_is_refused(
    start: Start,
    body: object,
    headers: list[tuple[str, str]],
    status: int,
    code: int,
    request_id: int | None,
    as_map: bool,
) -> None:
    gateway = await start()
    answer = await gateway.post(body, headers=headers, as_map=as_map)
    error = json.loads(answer.body)
    assert (answer.status, error["error"]["code"], error["id"]) == (status, code, request_id)


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        (rpc("ping") | {"id": "seven"}, "seven"),
        (b"{", None),
        (rpc("ping", {"x": "y" * 70_000}), None),
        (rpc("ping", {"x": [1] * 2_000}), None),
    ],
)
async def test_the_id_of_a_request_whose_headers_are_refused(
    start: Start, body: object, request_id: str | None
) -> None:
    gateway = await start()
    twice = [("mcp-session-id", "a"), ("mcp-session-id", "b")]
    answer = await gateway.post(body, headers=twice)
    assert (answer.status, json.loads(answer.body)["id"]) == (400, request_id)
    unread = await gateway.post(body, headers=twice, sends_body=False)
    assert (unread.status, json.loads(unread.body)["id"]) == (400, None)


async def test_a_body_that_has_not_come_whole_is_logged_once(
    start: Start, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Why a token lacks a scope that its call does not need."""
    gateway = await start(ROUTE)
    token = idp.token(scope="objects.read")
    assert (await gateway.post(tool_call(), token=token)).allowed
    assert not [it for it in caplog.messages if "has not come whole" in it]
    for _ in range(2):
        cut_off = await gateway.post(tool_call(), token=token, sends_body=False)
        assert cut_off.refusal == (403, "INSUFFICIENT_SCOPE")
    (line,) = [it for it in caplog.messages if "has not come whole" in it]
    assert "max_request_bytes" in line


async def test_another_type_than_json_is_refused(start: Start) -> None:
    gateway = await start()
    message = request("POST", rpc("ping"), as_map=True)
    message.attributes.request.http.headers["content-type"] = "text/plain"
    assert (await gateway.check(message)).status == 415


async def test_a_long_body_needs_a_valid_token(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    long = rpc("ping", {"x": "y" * 70_000})
    assert (await gateway.post(long)).status == 401
    assert (await gateway.post(long, token=idp.forged())).status == 401
    assert subject(await gateway.post(long, token=idp.token())) == "alice"
    assert "connection" not in (await gateway.post(long)).headers


async def test_a_body_may_be_as_long_as_at_the_gate(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    longest = rpc("ping", {"x": ""})
    longest = rpc("ping", {"x": "y" * (DEFAULT_MAX_BODY_BYTES - len(json.dumps(longest)))})
    headers = [("x-large", "z" * 60_000)]
    answer = await gateway.post(longest, token=idp.token(), headers=headers)
    assert subject(answer) == "alice"


async def test_methods_that_are_not_served(start: Start) -> None:
    gateway = await start()
    for method in ("PUT", "PATCH", "HEAD", "TRACE"):
        answer = await gateway.check(request(method))
        assert (answer.status, answer.headers["allow"]) == (405, "GET, POST, DELETE, OPTIONS")


async def test_options_pass_without_a_token(start: Start) -> None:
    gateway = await start({"adopt_sessions": False})
    answer = await gateway.check(request("OPTIONS"))
    assert (answer.status, answer.headers["allow"]) == (204, "POST, DELETE, OPTIONS")
    assert not answer.body


# Metadata


@pytest.mark.parametrize("path", ["", "/", "/mcp", "/mcp/", "/%6dcp", "/mcp?x=1"])
@pytest.mark.parametrize("named", [True, False])
async def test_the_metadata_is_public(start: Start, path: str, named: bool) -> None:
    gateway = await start(ROUTE)
    answer = await gateway.get(
        path=f"/.well-known/oauth-protected-resource{path}", resource=RESOURCE if named else ""
    )
    assert not answer.allowed
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert json.loads(answer.body) == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["objects.read", "objects.write", "buckets.read"],
    }


async def test_the_metadata_by_other_methods(start: Start) -> None:
    gateway = await start(ROUTE)
    path = "/.well-known/oauth-protected-resource/mcp"
    answers = {
        method: await gateway.check(request(method, path=path))
        for method in ("HEAD", "OPTIONS", "POST")
    }
    assert [answer.status for answer in answers.values()] == [200, 204, 405]
    assert answers["OPTIONS"].headers["access-control-allow-methods"] == "GET"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/mcp", {}),
        ("", {}),
        ("/", {}),
        ("/other", ROUTE),
        ("%2Fother", ROUTE),
        ("/mcp/below", ROUTE),
    ],
)
@pytest.mark.parametrize("named", [True, False])
async def test_metadata_that_are_not_there(
    start: Start,
    caplog: pytest.LogCaptureFixture,
    path: str,
    route: Mapping[str, object],
    method: str,
    named: bool,
) -> None:
    gateway = await start(route)
    answer = await gateway.check(
        request(
            method,
            path=f"/.well-known/oauth-protected-resource{path}",
            resource=RESOURCE if named else "",
        )
    )
    assert answer.status == 404
    assert answer.headers["access-control-allow-origin"] == "*"
    assert json.loads(answer.body)["error"] == {
        "code": 404,
        "message": "There is no metadata of this resource.",
    }
    assert denied_callers(caplog) == []


# Sessions that the upstream mints


async def test_a_session_is_adopted_at_its_first_use_with_a_token(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    opened = await gateway.post(rpc("initialize"))
    assert (subject(opened), opened.to_client) == ("", {})
    first = await gateway.post(tool_call(), session="theirs", token=idp.token())
    assert (subject(first), first.metadata["outcome"]) == ("alice", "created")
    assert first.headers["mcp-session-id"] == "theirs"
    again = await gateway.post(tool_call(), session="theirs", token=idp.token())
    assert again.metadata["outcome"] == "reused"


async def test_another_subject_does_not_get_an_adopted_session(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    assert subject(await gateway.post(tool_call(), session="s", token=idp.token())) == "alice"
    for message in (tool_call(), rpc("ping")):
        answer = await gateway.post(message, session="s", token=idp.token("mallory"))
        assert answer.refusal == (404, "SESSION_NOT_FOUND")
    assert subject(await gateway.post(tool_call(), session="s", token=idp.token())) == "alice"


async def test_a_session_without_a_token_is_not_stored(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    for message in (rpc("ping"), rpc("notifications/initialized")):
        answer = await gateway.post(message, session="s")
        assert (subject(answer), "session" in answer.metadata) == ("", False)
    assert (await gateway.post(tool_call(), session="s")).status == 401
    # Whoever comes first with a token has it.
    answer = await gateway.post(rpc("ping"), session="s", token=idp.token("bob"))
    assert (subject(answer), answer.metadata["outcome"]) == ("bob", "created")


async def test_a_bad_token_adopts_nothing(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    assert (await gateway.post(tool_call(), session="s", token=idp.forged())).status == 401
    answer = await gateway.post(tool_call(), session="s", token=idp.token("bob"))
    assert (subject(answer), answer.metadata["outcome"]) == ("bob", "created")


async def test_an_adopted_session_is_served_to_its_owner_alone(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    await gateway.post(tool_call(), session="s", token=idp.token())
    assert (await gateway.post(rpc("ping"), session="s")).status == 401


async def test_a_revoked_session_is_not_adopted_again(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    await gateway.post(tool_call(), session="s", token=idp.token())
    answer = await gateway.delete(session="s", token=idp.token())
    assert (subject(answer), answer.headers["mcp-session-id"]) == ("alice", "s")
    for token in ("", idp.token()):
        for message in (tool_call(), rpc("ping")):
            answer = await gateway.post(message, session="s", token=token)
            assert answer.refusal == (404, "SESSION_NOT_FOUND")


async def test_an_id_whose_session_has_ended_is_nobodys_again(
    start: Start, idp: IdentityProvider, clock: Clock
) -> None:
    """What the pages say of servers that keep their sessions for longer."""
    lifetimes = {"authenticated_idle_seconds": 100, "tombstone_seconds": 100}
    gateway = await start(sessions={**lifetimes, "unauthenticated_idle_seconds": 50})
    for session in ("expired", "revoked"):
        assert (await gateway.post(tool_call(), session=session, token=idp.token())).allowed
    assert (await gateway.delete(session="revoked", token=idp.token())).allowed
    clock.advance(99)
    others = idp.token("mallory")
    for session in ("expired", "revoked"):
        assert (await gateway.post(tool_call(), session=session, token=others)).status == 404
    clock.advance(2)
    for session in ("expired", "revoked"):
        answers = [await gateway.post(rpc("ping"), session=session) for _ in range(2)]
        assert answers[1].allowed
        assert subject(await gateway.post(tool_call(), session=session, token=others)) == "mallory"
        answer = await gateway.post(tool_call(), session=session, token=idp.token())
        assert answer.status == 404


async def test_the_ids_of_principal_sessions_are_not_adopted(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    await gateway.post(tool_call(), token=idp.token())
    answer = await gateway.post(tool_call(), session="~x", token=idp.token())
    assert answer.status == 404


@pytest.mark.parametrize("session", ["x" * 129, "x y"])
async def test_an_id_that_is_none_is_not_adopted(
    start: Start, idp: IdentityProvider, session: str
) -> None:
    gateway = await start()
    for token in ("", idp.token()):
        assert (await gateway.post(rpc("ping"), session=session, token=token)).status == 404


async def test_streams_and_ends_are_for_the_owner(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    await gateway.post(tool_call(), session="s", token=idp.token())
    for ask in (gateway.get, gateway.delete):
        assert (await ask(session="s")).status == 401
        assert (await ask(session="s", token=idp.token("mallory"))).status == 404
        assert (await ask(token=idp.token())).status == 400
        assert (await ask(token=idp.token(), version=MODERN)).status == 405
    answer = await gateway.get(session="s", token=idp.token(), headers=[("last-event-id", "3")])
    assert (subject(answer), answer.headers["mcp-session-id"]) == ("alice", "s")
    assert "last-event-id" not in answer.removed


@pytest.mark.parametrize("protocol", ["websocket", "WebSocket", "h2c, websocket", "TLS/1.3"])
async def test_a_connection_is_not_upgraded(
    start: Start, idp: IdentityProvider, protocol: str
) -> None:
    """Some gateways pass upgrades on; what follows would be seen by no check."""
    gateway = await start()
    upgrade = [("upgrade", protocol), ("connection", "upgrade")]
    owner: dict[str, Any] = {"session": "s", "token": idp.token(), "headers": upgrade}
    for answer in (await gateway.get(**owner), await gateway.post(rpc("ping"), headers=upgrade)):
        assert answer.status == 400
    assert (await gateway.post(rpc("ping"), headers=[("upgrade", "h2c")])).allowed


async def test_a_stream_and_an_end_have_no_body(start: Start, idp: IdentityProvider) -> None:
    """A server that looks at the body alone would execute a call that was not authorised."""
    gateway = await start()
    for method in ("GET", "DELETE"):
        owner: dict[str, Any] = {"session": f"of-{method}", "token": idp.token()}
        for body, headers, sends_body in (
            (tool_call(), [], True),
            (None, [("content-length", "9")], False),
            (None, [("transfer-encoding", "chunked")], False),
        ):
            message = request(method, body, headers=headers, sends_body=sends_body, **owner)
            assert (await gateway.check(message)).status == 400
        empty = [("content-length", "0")]
        assert (await gateway.check(request(method, headers=empty, **owner))).allowed


# Sessions that authsvc mints


async def test_minted_sessions_are_given_to_the_client(start: Start, idp: IdentityProvider) -> None:
    gateway = await start({"adopt_sessions": False})
    opened = await gateway.post(rpc("initialize"), session="mine", token=idp.token())
    session = opened.to_client["mcp-session-id"]
    assert session != "mine"
    assert "mcp-session-id" in opened.removed
    called = await gateway.post(tool_call(), session=session, token=idp.token())
    assert (subject(called), called.to_client) == ("alice", {})
    assert called.headers["mcp-session-id"] == session
    assert (await gateway.post(tool_call(), token=idp.token())).status == 400
    assert (await gateway.get(session=session, token=idp.token())).status == 405
    ended = await gateway.delete(session=session, token=idp.token())
    assert (ended.allowed, ended.status, ended.body) == (False, 204, "")
    assert (await gateway.post(tool_call(), session=session, token=idp.token())).status == 404


async def test_the_default_of_all_routes(start: Start, idp: IdentityProvider) -> None:
    changes = with_gateways({"resource": OTHER_RESOURCE, "adopt_sessions": True})
    changes["ext_authz"] = {**changes["ext_authz"], "adopt_sessions": False}
    gateway = await start(**changes)
    assert (await gateway.post(rpc("initialize"))).to_client
    assert not (await gateway.post(rpc("initialize"), resource=OTHER_RESOURCE)).to_client


# Bodies that are not known


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize("sends", ["nothing", "a part"])
async def test_a_body_that_is_not_known_needs_all_scopes(
    start: Start, idp: IdentityProvider, version: str, sends: str
) -> None:
    gateway = await start(ROUTE)
    partial = [("x-envoy-auth-partial-body", "true")] if sends == "a part" else []
    both: dict[str, Any] = {
        "version": version,
        "headers": partial,
        "sends_body": sends == "a part",
    }
    answer = await gateway.post(rpc("ping"), **both)
    assert answer.status == 401
    assert 'scope="objects.read objects.write buckets.read"' in challenge(answer)
    answer = await gateway.post(rpc("ping"), token=idp.token(), **both)
    assert answer.refusal == (403, "INSUFFICIENT_SCOPE")
    every = idp.token(scope="objects.read objects.write buckets.read")
    answer = await gateway.post(rpc("ping"), token=every, **both)
    assert (subject(answer), "method" in answer.metadata) == ("alice", False)
    assert (await gateway.post(rpc("ping"), token=idp.forged(), **both)).status == 401
    mismatched = await gateway.post(rpc("ping"), token=every, session="s", **both)
    assert subject(mismatched) == "alice"


async def test_a_body_that_is_not_known_opens_no_session(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start({"adopt_sessions": False})
    answer = await gateway.post(rpc("initialize"), token=idp.token(), sends_body=False)
    assert answer.status == 400


def routed(method: str, name: str = "") -> dict[str, object]:
    """A request whose body is not sent, with the headers that name its call."""
    headers = [("mcp-method", method), *([("mcp-name", name)] if name else [])]
    return {"headers": headers, "version": MODERN, "sends_body": False}


async def test_routing_headers_name_the_call(start: Start, idp: IdentityProvider) -> None:
    gateway = await start({**ROUTE, "routing_headers": True})
    token = idp.token(scope="objects.read")
    answer = await gateway.post(tool_call(), token=token, **routed("tools/call", "read"))
    assert subject(answer) == "alice"
    assert (answer.metadata["method"], answer.metadata["tool"]) == ("tools/call", "read")
    assert not {"mcp-method", "mcp-name"} & {*answer.removed}
    encoded = f"=?base64?{base64.b64encode(b'delete').decode()}?="
    for name in ("delete", encoded):
        answer = await gateway.post(tool_call(), token=token, **routed("tools/call", name))
        assert answer.status == 403
    assert (await gateway.post(tool_call(), **routed("tools/call", "read"))).status == 401
    assert subject(await gateway.post(rpc("ping"), **routed("tools/list"))) == ""


async def test_routing_headers_that_name_no_call(start: Start, idp: IdentityProvider) -> None:
    gateway = await start({**ROUTE, "routing_headers": True})
    token = idp.token(scope="objects.read")
    # Without a name it may be any tool; before 2026-07-28 the headers mean nothing.
    assert (await gateway.post(tool_call(), token=token, **routed("tools/call"))).status == 403
    legacy = {**routed("tools/call", "read"), "version": "2025-11-25"}
    assert (await gateway.post(tool_call(), token=token, **legacy)).status == 403
    broken = routed("tools/call", "=?base64?x?=")
    assert (await gateway.post(tool_call(), token=token, **broken)).status == 400
    assert (await gateway.post(rpc("initialize"), **routed("initialize"))).status == 404


async def test_routing_headers_count_only_where_the_route_says_so(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start(ROUTE)
    token = idp.token(scope="objects.read")
    answer = await gateway.post(tool_call(), token=token, **routed("tools/call", "read"))
    assert answer.status == 403


async def test_the_body_counts_where_it_is_sent(start: Start, idp: IdentityProvider) -> None:
    gateway = await start({**ROUTE, "routing_headers": True})
    headers = {**routed("tools/call", "read"), "sends_body": True}
    answer = await gateway.post(tool_call("delete"), token=idp.token(), **headers)
    assert answer.status == 403
    token = idp.token(scope="objects.read objects.write")
    answer = await gateway.post(tool_call("delete"), token=token, **headers)
    assert answer.status == 400  # the name is another one


# What the upstream gets


async def test_the_upstream_gets_no_token_and_nothing_in_authsvcs_name(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    smuggled = [
        ("x-authsvc-assertion", "forged"),
        ("x-authsvc-assertion", "twice"),
        ("x_authsvc_assertion", "forged"),
        ("x-authsvc_credentials", "forged"),
        ("X-Authsvc-Other", "forged"),
        ("mcp_session_id", "s"),
        ("x-http-method-override", "DELETE"),
        ("x_method_override", "DELETE"),
        ("content_length", "3"),
        ("content_type", "text/plain"),
        ("content-encoding", "identity"),
        ("last-event-id", "1"),
        ("mcp-method", "tools/call"),
        ("accept", "*/*"),
        ("x-request-id", "1"),
    ]
    kept = {"accept", "x-request-id", "content-type", "content-length", "mcp-protocol-version"}
    answer = await gateway.post(tool_call(), headers=smuggled, token=idp.token(), session="s")
    assert subject(answer) == "alice"
    names = {name.lower() for name, _ in smuggled} | {"authorization", "x-authsvc-credentials"}
    assert {*answer.removed} == names - kept - {"x-authsvc-assertion"}
    anonymous = await gateway.post(rpc("ping"), headers=smuggled)
    assert {*anonymous.removed} == names - kept - {"authorization"}
    assert anonymous.headers == {}


async def test_the_body_is_json_for_the_upstream(start: Start) -> None:
    gateway = await start()
    message = request("POST", rpc("ping"), as_map=True)
    message.attributes.request.http.headers["content-type"] = "application/json; charset=utf-16"
    answer = await gateway.check(message)
    assert answer.headers == {"content-type": "application/json"}


async def test_a_session_id_of_a_revision_without_sessions_is_removed(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    answer = await gateway.post(tool_call(), session="s", token=idp.token(), version=MODERN)
    assert subject(answer) == "alice"
    assert "mcp-session-id" in answer.removed


async def test_credentials_are_for_the_upstreams_that_ask(
    start: Start, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "authsvc")
    gateway = await start({"credentials": True})
    answer = await gateway.post(tool_call(), token=idp.token(exp=1_800_000_600))
    header = answer.headers["x-authsvc-credentials"]
    assert "x-authsvc-credentials" not in answer.removed
    assert json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))) == {
        "type": "aws",
        "access_key_id": "AKIAREADER",
        "secret_access_key": "secret-of-reader",
        "session_token": "",
        "region": "us-east-1",
        "expire_time": 1_800_000_600,
    }
    assert "secret-of-reader" not in f"{answer.metadata}{caplog.text}"
    assert header not in caplog.text
    anonymous = await gateway.post(rpc("ping"))
    assert "x-authsvc-credentials" in anonymous.removed


API = {
    "role": "reader",
    "access_key_id": "AKIAREADER",
    "secret_access_key_file": "unread",
    "name": "api",
    "resources": [RESOURCE],
}
"""A table of that name, which the tests' own broker takes the place of."""


def issued_to(answer: Answer) -> str:
    """The bearer token that an upstream gets; empty for none."""
    assert answer.allowed
    header = answer.headers.get("x-authsvc-credentials", "")
    if not header:
        assert "x-authsvc-credentials" in answer.removed
        return ""
    return str(
        json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["access_token"]
    )


@pytest.mark.parametrize("adopt_sessions", [True, False])
@pytest.mark.parametrize(
    ("route", "asked"),
    [
        ({}, []),
        ({"credentials": True}, [""]),
        ({"credentials": True, "credential_name": "api"}, ["api"]),
    ],
)
async def test_a_broker_is_asked_for_what_the_route_has(
    start: Start,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    route: Mapping[str, object],
    asked: list[str],
    adopt_sessions: bool,
) -> None:
    """By each kind of request, and with each token anew."""
    broker = NamedBroker.of_services(monkeypatch)
    tables = {"static": [API]}
    gateway = await start({**route, "adopt_sessions": adopt_sessions}, credentials=tables)
    where: dict[str, str] = {"session": "s"} if adopt_sessions else {"version": MODERN}
    for subject, jti in (("alice", "1"), ("alice", "2")):
        token = idp.token(subject, jti=jti)
        answers = [
            await gateway.post(rpc("initialize"), token=token),
            *[await gateway.post(tool_call(), token=token, **where) for _ in range(4)],
            *([await gateway.get(token=token, **where)] if adopt_sessions else []),
        ]
        expected = "".join(f"{name}/{subject}" for name in asked)
        assert [issued_to(answer) for answer in answers] == [expected] * len(answers)
        assert list(broker.taken()) == asked
    assert (await gateway.delete(token=token, **where)).status != 503
    assert {*broker.taken()} <= {*asked}


@pytest.mark.parametrize(
    ("error", "status"),
    [(Reason.CREDENTIALS_REFUSED, 403), (Reason.CREDENTIALS_UNAVAILABLE, 503)],
)
async def test_a_route_whose_credentials_are_not_issued_denies(
    start: Start,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    error: Reason,
    status: int,
) -> None:
    broker = NamedBroker.of_services(monkeypatch)
    broker.errors["api"] = error
    route = {"credentials": True, "credential_name": "api"}
    gateway = await start(route, credentials={"static": [API]})
    answer = await gateway.post(tool_call(), token=idp.token())
    assert (answer.status, answer.metadata["reason"]) == (status, error.name)


def test_bearer_credentials_as_a_header() -> None:
    credentials = BearerCredentials(Secret("sesame"), "Bearer", 1_800_000_600)
    header = encoded_credentials(credentials)
    assert "=" not in header
    assert json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))) == {
        "type": "bearer",
        "access_token": "sesame",
        "token_type": "Bearer",
        "expire_time": 1_800_000_600,
    }


async def test_other_upstreams_get_none(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    answer = await gateway.post(tool_call(), token=idp.token())
    assert "x-authsvc-credentials" in answer.removed
    assert "x-authsvc-credentials" not in answer.headers


# What the gateway itself learns


async def test_dynamic_metadata_say_who_asks_and_hold_no_secret(
    start: Start, idp: IdentityProvider
) -> None:
    gateway = await start()
    token, session = idp.token(), "theirs-and-not-shown"
    answer = await gateway.post(tool_call(), session=session, token=token)
    assert answer.metadata == {
        "resource": RESOURCE,
        "issuer": ISSUER,
        "subject": "alice",
        "client_id": "client",
        "scopes": ["buckets.read", "objects.read"],
        "outcome": "created",
        "session": "theirs-a…",
        "method": "tools/call",
        "tool": "read",
    }
    denied = await gateway.post(tool_call(), session=session, token=idp.token("mallory"))
    assert denied.metadata == {
        "resource": RESOURCE,
        "method": "tools/call",
        "tool": "read",
        "reason": "SESSION_NOT_FOUND",
    }
    for secret in (token, session, answer.assertion):
        assert secret not in str(answer.metadata)
        assert secret.encode() not in denied.encoded


async def test_an_actor_is_in_the_assertion_and_in_dynamic_metadata(
    start: Start, idp: IdentityProvider, clock: Clock
) -> None:
    """Each answer has that of its own token, also where it is repeated."""
    gateway = await start()
    chain = {"sub": "agent", "iss": "https://agents.example", "act": {"sub": "first"}}
    alone = idp.token()
    clock.advance(1)
    acting = idp.token(act={**chain, "email": "left-out@example.com"})
    for _ in range(3):
        for token, act in ((alone, None), (acting, chain)):
            answer = await gateway.post(tool_call(), session="theirs", token=token)
            claims = jwt.decode(answer.assertion, options={"verify_signature": False})
            assert (claims["sub"], claims.get("act")) == ("alice", act)
            assert answer.metadata.get("actor") == (act and act["sub"])
    malformed = await gateway.post(tool_call(), session="theirs", token=idp.token(act="agent"))
    assert malformed.refusal == (401, "TOKEN_MALFORMED")


async def test_a_long_tool_name_is_cut_in_metadata(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    answer = await gateway.post(tool_call("x" * 5000), token=idp.token())
    assert answer.metadata["tool"] == "x" * 200


# Gateways, resources and limits


async def test_a_resource_in_another_spelling(start: Start, idp: IdentityProvider) -> None:
    gateway = await start()
    answer = await gateway.post(
        tool_call(), token=idp.token(), resource="HTTPS://MCP.example:443/mcp"
    )
    assert (subject(answer), answer.metadata["resource"]) == ("alice", RESOURCE)


async def test_a_resource_is_found_by_host_and_path(start: Start, idp: IdentityProvider) -> None:
    gateway = await start({})
    answer = await gateway.post(tool_call(), token=idp.token(), resource="", path="/mcp?x=1")
    assert (subject(answer), answer.metadata["resource"]) == ("alice", RESOURCE)


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "/other"},
        {"host": "other.example"},
        {"path": "/mcp/../x"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
async def test_a_request_for_no_resource_is_denied_and_logged_at_times(
    start: Start, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], method: str
) -> None:
    """Any client causes it: that is no security event."""
    gateway = await start({})
    body = rpc("ping") if method == "POST" else None
    for _ in range(2):
        answer = await gateway.check(request(method, body, resource="", **arguments))
        assert answer.refusal == (403, "CALLER_NOT_ALLOWED")
    (line,) = [it for it in caplog.messages if "names no resource" in it]
    assert "'local'" in line
    assert "ext_authz.routes" in line
    assert denied_callers(caplog) == []


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
async def test_a_request_for_an_unknown_resource_is_denied_and_audited(
    start: Start,
    idp: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    gateway = await start({})
    body = rpc("ping") if method == "POST" else None
    named = "https://unknown.example/mcp"
    answer = await gateway.check(request(method, body, token=idp.token(), resource=named))
    assert answer.refusal == (403, "CALLER_NOT_ALLOWED")
    assert denied_callers(caplog) == ["local"]


async def test_a_resource_that_is_none_is_denied(start: Start) -> None:
    gateway = await start({})
    answer = await gateway.post(rpc("ping"), resource="mcp")
    assert answer.refusal == (400, "RESOURCE_INVALID")


SERVICE_TOKENS = {name: secrets.token_hex(32) for name in ("a", "b")}


@asynccontextmanager
async def registered(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Gateway]:
    """An authsvc with a gateway for each resource."""
    for name, token in SERVICE_TOKENS.items():
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    callers = [
        {"name": name, "resources": [resource], "service_token_files": [tmp_path / name]}
        for name, resource in (("a", RESOURCE), ("b", OTHER_RESOURCE))
    ]
    settings = settings_for(
        tmp_path, idp, **with_gateways({"resource": RESOURCE}), resources=(), callers=callers
    )
    async with serving_gateways(settings, clock) as behind:
        yield behind.gateway


def proof(name: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {SERVICE_TOKENS[name]}")]


async def test_gateways_are_registered(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    message = request("POST", tool_call(), token=idp.token(), session="s")
    by_place = request("POST", tool_call(), token=idp.token(), session="s", resource="")
    async with registered(tmp_path, clock, idp) as gateway:
        for known in (message, by_place):
            assert subject(await gateway.check(known, proof("a"))) == "alice"
            denied = await gateway.check(known, proof("b"))
            assert denied.refusal == (403, "CALLER_NOT_ALLOWED")
        for unknown in ([], [("authorization", "Bearer guess")]):
            with pytest.raises(grpc.RpcError) as caught:
                await gateway.check(message, unknown)
            assert status_of(caught.value) is grpc.StatusCode.PERMISSION_DENIED
    assert denied_callers(caplog) == ["b", "b", "", ""]


async def test_a_session_of_another_gateway_is_not_ended(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    async with registered(tmp_path, clock, idp) as gateway:
        first = request("POST", tool_call(), token=idp.token(), session="s")
        assert subject(await gateway.check(first, proof("a"))) == "alice"
        token = idp.token(aud=OTHER_RESOURCE)
        end = request("DELETE", token=token, session="s", resource=OTHER_RESOURCE)
        answer = await gateway.check(end, proof("b"))
        assert answer.refusal == (403, "CALLER_NOT_ALLOWED")
        assert subject(await gateway.check(first, proof("a"))) == "alice"
    assert denied_callers(caplog) == ["b"]


async def test_calls_are_limited(start: Start, idp: IdentityProvider) -> None:
    gateway = await start(limits={"calls_per_second": 1, "calls_burst": 2})
    for _ in range(2):
        assert subject(await gateway.post(tool_call(), token=idp.token())) == "alice"
    answer = await gateway.post(tool_call(), token=idp.token())
    assert answer.refusal == (429, "OVERLOADED")
    assert answer.headers["retry-after"] == "1"
    unknown = await gateway.post(tool_call(), resource="", path="/unknown")
    assert unknown.refusal == (429, "OVERLOADED")


async def test_rejected_tokens_are_limited(
    start: Start, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(*_: object) -> None:
        raise AssertionError("no work is done for it")

    gateway = await start(limits={"rejected_tokens_per_second": 1, "rejected_tokens_burst": 2})
    known = idp.token()
    assert subject(await gateway.post(tool_call(), token=known)) == "alice"
    for _ in range(2):
        assert (await gateway.post(tool_call(), token=idp.forged())).status == 401
    for session in ("", "s"):
        answer = await gateway.post(tool_call(), token=idp.forged(), session=session)
        assert answer.refusal == (429, "OVERLOADED")
    assert subject(await gateway.post(tool_call(), token=known)) == "alice"
    monkeypatch.setattr(SessionResolver, "rejection_now", checked)
    assert (await gateway.post(tool_call(), token=idp.forged())).refusal == (429, "OVERLOADED")


async def test_sessions_without_a_token_are_limited(start: Start) -> None:
    gateway = await start(
        {"adopt_sessions": False},
        limits={"anonymous_sessions_per_second": 1, "anonymous_sessions_burst": 1},
    )
    assert (await gateway.post(rpc("initialize"))).allowed
    assert (await gateway.post(rpc("initialize"))).refusal == (429, "SESSION_LIMIT")


# Failures


async def test_an_outage_is_a_denial(
    start: Start, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: object, **__: object) -> Resolution:
        raise AuthError(Reason.STORE_UNAVAILABLE, "for the log", retry_after_seconds=3)

    gateway = await start(ROUTE)
    monkeypatch.setattr(SessionResolver, "resolve", resolve)
    answer = await gateway.post(tool_call(), token=idp.token())
    assert answer.refusal == (503, "STORE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "3"
    assert b"for the log" not in answer.encoded


async def test_without_an_assertion_a_request_is_denied(
    start: Start, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assertion(*_: object, **__: object) -> str:
        raise AuthError(Reason.KEYS_UNAVAILABLE, retry_after_seconds=10)

    gateway = await start(ROUTE)
    monkeypatch.setattr(Assertions, "assertion", assertion)
    answer = await gateway.post(tool_call(), token=idp.token())
    assert answer.refusal == (503, "KEYS_UNAVAILABLE")
    assert (await gateway.post(rpc("ping"))).allowed


async def test_a_token_that_ends_now_is_a_denial(
    start: Start, idp: IdentityProvider, clock: Clock
) -> None:
    gateway = await start(ROUTE)
    token = idp.token(ttl_seconds=10)
    clock.advance(11)  # within the leeway of a token, and past that of an assertion
    answer = await gateway.post(tool_call(), token=token)
    assert answer.refusal == (401, "TOKEN_EXPIRED")
    assert f'resource_metadata="{METADATA}"' in challenge(answer)


async def test_an_unexpected_failure_is_a_denial_that_tells_nothing(
    start: Start,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = "sesame"

    def assertion(*_: object, **__: object) -> str:
        raise RuntimeError(message)

    gateway = await start(ROUTE)
    monkeypatch.setattr(Assertions, "assertion", assertion)
    token = idp.token()
    answer = await gateway.post(tool_call(), token=token)
    assert answer.status == 500
    assert json.loads(answer.body)["error"] == {"code": -32603, "message": "Internal server error."}
    (logged,) = [it for it in caplog.records if it.levelno >= logging.ERROR]
    assert "RuntimeError" in caplog.text
    assert message not in caplog.text
    assert token not in str(logged.__dict__)


@pytest.mark.parametrize("encoded", [b"\xff", b""])
async def test_what_is_no_check_is_an_error_of_the_gateway(start: Start, encoded: bytes) -> None:
    gateway = await start()
    with pytest.raises(grpc.RpcError) as caught:
        await gateway.check(encoded)
    assert status_of(caught.value) is grpc.StatusCode.INVALID_ARGUMENT


async def test_gateways_are_served_only_where_that_is_configured(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    settings = settings_for(tmp_path, idp)
    async with serving(settings, clock) as service, gateway_of(service.address) as gateway:
        with pytest.raises(grpc.RpcError) as caught:
            await gateway.post(rpc("ping"))
        assert status_of(caught.value) is grpc.StatusCode.UNIMPLEMENTED


async def test_nothing_secret_is_logged(
    start: Start, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway = await start({"credentials": True})
    session, token = "theirs-and-not-shown", idp.token()
    answer = await gateway.post(tool_call(), session=session, token=token)
    again = await gateway.post(tool_call(), session=session, token=token)
    forged = idp.forged()
    await gateway.post(tool_call(), session=session, token=forged)
    logged = "".join(f"{it.getMessage()}{it.__dict__}" for it in caplog.records)
    assert answer.assertion == again.assertion
    for secret in (token, forged, session, answer.assertion, "secret-of-reader"):
        assert secret not in logged


# Metrics and traces


async def test_checks_are_counted(
    start: Start, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gateway = await start({"adopt_sessions": False}, metrics={"listen": "127.0.0.1:0"})
    (told,) = [it for it in caplog.records if it.getMessage().startswith("metrics at")]
    session = (await gateway.post(rpc("initialize"))).to_client["mcp-session-id"]
    for token in (idp.token(), idp.token(), idp.token(), idp.forged(), ""):
        await gateway.post(tool_call(), session=session, token=token)
    await gateway.post(tool_call(), session="unknown", token=idp.token())
    await gateway.post(rpc("ping"), resource="https://unknown.example")
    await gateway.check(request("OPTIONS"))
    scraped = await scrape(str(told.__dict__["address"]))
    answers = ("allowed", "401", "404", "403", "204", "503")
    counted = [scraped.value("authsvc_checks_total", answer=answer) for answer in answers]
    assert counted == [4, 2, 1, 1, 1, 0]
    resolves = {
        result: scraped.value("authsvc_resolves_total", result=result, via="check")
        for result in ("created", "reauthenticated", "reused", "TOKEN_SIGNATURE_INVALID")
    }
    assert resolves == {
        "created": 1,
        "reauthenticated": 1,
        "reused": 3,
        "TOKEN_SIGNATURE_INVALID": 1,
    }
    # The second use writes nothing, and is cached for the third.
    assert scraped.value("authsvc_resolves_cached_total", via="check") == 1


async def test_a_check_is_a_span_of_the_gateways_trace(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[tuple[str, str]] = []

    def server_span(_: object, name: str, traceparent: str) -> nullcontext[None]:
        spans.append((name, traceparent))
        return nullcontext()

    monkeypatch.setattr(NoTracing, "server_span", server_span)
    gateway = await start()
    await gateway.post(rpc("ping"), headers=[("traceparent", "of the request")])
    message = request("POST", rpc("ping"), headers=[("traceparent", "of the request")])
    await gateway.check(message, [("traceparent", "of the call")])
    assert spans == [("Check", "of the request"), ("Check", "of the call")]
