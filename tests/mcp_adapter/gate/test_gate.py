"""Which requests the gate admits, and how it answers the others, over real HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Scope

from authsvc.common.rarely import Rarely
from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth import resolving
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.request_headers import RequestHeaders
from mcp_adapter import SessionGate
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    METADATA_URL,
    MODERN,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    bare,
    call,
    demo_app,
    initialize,
    request,
    running,
    said,
)
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

TWO_AUTHORIZATIONS = [("Authorization", "Bearer alice-1"), ("Authorization", "Bearer bob")]


async def test_initialize_without_a_token_opens_a_session(endpoint: Endpoint) -> None:
    response = await endpoint.post(initialize(), version=None)

    assert response.status_code == 200
    assert response.headers["mcp-session-id"] in endpoint.resolver.sessions
    assert response.json()["result"]["protocolVersion"] == LEGACY


async def test_initialize_with_a_bad_token_opens_none(endpoint: Endpoint) -> None:
    response = await endpoint.post(initialize(), token="expired")

    assert response.status_code == 401
    assert "mcp-session-id" not in response.headers
    assert not endpoint.resolver.sessions


async def test_initialize_that_fails_gets_no_session_id(endpoint: Endpoint) -> None:
    response = await endpoint.post(request("initialize", {"protocolVersion": 3}))

    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32602
    assert "mcp-session-id" not in response.headers


async def test_initialize_ignores_a_session_id_that_it_is_sent(endpoint: Endpoint) -> None:
    first = await endpoint.open("alice-1")

    response = await endpoint.post(initialize(), session=first)

    assert response.headers["mcp-session-id"] != first


@pytest.mark.parametrize("method", ["ping", "tools/list"])
async def test_open_methods_need_no_token(endpoint: Endpoint, method: str) -> None:
    response = await endpoint.post(request(method), session=await endpoint.open())

    assert response.status_code == 200
    assert "result" in response.json()


async def test_the_same_tool_before_and_after_a_token(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    refused = await endpoint.post(call("whoami"), session=session)
    served = await endpoint.post(call("whoami"), session=session, token="alice-1")

    assert refused.status_code == 401
    assert said(served) == "alice"


async def test_a_call_without_a_token_is_never_answered_as_the_session_owner(
    endpoint: Endpoint,
) -> None:
    session = await endpoint.open("alice-1")

    response = await endpoint.post(call("whoami"), session=session)

    assert response.status_code == 401
    assert said(await endpoint.post(call("public"), session=session)) == "nobody"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_missing_token_is_challenged_without_an_error(endpoint: Endpoint, era: str) -> None:
    if era == "legacy":
        response = await endpoint.post(call("whoami"), session=await endpoint.open())
    else:
        response = await endpoint.modern("tools/call", {"name": "whoami", "arguments": {}})

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == (
        f'Bearer resource_metadata="{METADATA_URL}", scope="things.read"'
    )
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": 401, "message": "This request needs an access token."},
    }


@pytest.mark.parametrize("method", ["ping", "tools/list", "notifications/initialized"])
async def test_an_invalid_token_is_rejected_on_open_methods_too(
    endpoint: Endpoint, method: str
) -> None:
    session = await endpoint.open()

    response = await endpoint.post(request(method), session=session, token="expired")

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == (
        f'Bearer resource_metadata="{METADATA_URL}", error="invalid_token", '
        'error_description="The token has expired."'
    )
    assert response.json()["error"]["data"] == {"reason": "TOKEN_EXPIRED"}


async def test_an_invalid_token_is_rejected_on_the_later_revision_too(endpoint: Endpoint) -> None:
    response = await endpoint.modern("server/discover", token="expired")

    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_a_bad_token_leaves_the_session_to_its_owner(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")

    await endpoint.post(call("whoami"), session=session, token="expired")

    assert said(await endpoint.post(call("whoami"), session=session, token="alice-2")) == "alice"


async def test_missing_scopes_are_named_all(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    response = await endpoint.post(call("write"), session=session, token="alice-reader")

    assert response.status_code == 403
    assert response.headers["www-authenticate"] == (
        f'Bearer resource_metadata="{METADATA_URL}", scope="things.read things.write", '
        'error="insufficient_scope", '
        'error_description="The token lacks a scope that this request needs."'
    )
    assert response.json()["error"]["data"] == {"reason": "INSUFFICIENT_SCOPE"}


async def test_an_unknown_method_is_closed_to_the_anonymous(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    anonymous = await endpoint.post(request("tools/destroy"), session=session)
    known = await endpoint.post(request("tools/destroy"), session=session, token="alice-1")

    assert anonymous.status_code == 401
    assert known.json()["error"]["code"] == -32601


async def test_another_subject_and_an_unknown_session_look_the_same(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")
    sessions = [session, "unknown"]

    foreign, unknown = [
        await endpoint.post(call("whoami"), session=session_id, token="bob")
        for session_id in sessions
    ]

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content == unknown.content
    assert bare(foreign) == bare(unknown)
    assert "www-authenticate" not in foreign.headers
    assert said(await endpoint.post(call("whoami"), session=session, token="alice-1")) == "alice"


@pytest.mark.parametrize(
    "reason",
    [
        Reason.SESSION_EXPIRED,
        Reason.SESSION_REVOKED,
        Reason.SESSION_ID_INVALID,
        Reason.SESSION_SUBJECT_MISMATCH,
    ],
)
async def test_every_session_that_is_not_ones_own_is_the_same_404(
    endpoint: Endpoint, reason: Reason
) -> None:
    unknown = await endpoint.post(request("ping"), session="unknown")
    endpoint.resolver.error = AuthError(reason, "what only the log may know")

    response = await endpoint.post(request("ping"), session="other")

    assert response.status_code == 404
    assert response.content == unknown.content
    assert bare(response) == bare(unknown)


@pytest.mark.parametrize(
    ("reason", "status", "retry_after", "error"),
    [
        (Reason.CALLER_NOT_ALLOWED, 403, None, ""),
        (Reason.CREDENTIALS_REFUSED, 403, None, ""),
        (Reason.TOKEN_TOO_LARGE, 400, None, 'error="invalid_request"'),
        (Reason.RESOURCE_INVALID, 400, None, ""),
        (Reason.SESSION_LIMIT, 429, "1", ""),
        (Reason.OVERLOADED, 429, "1", ""),
        (Reason.STORE_UNAVAILABLE, 503, "1", ""),
        (Reason.KEYS_UNAVAILABLE, 503, "1", ""),
        (Reason.CREDENTIALS_UNAVAILABLE, 503, "1", ""),
    ],
)
@pytest.mark.parametrize("message", [initialize(), request("ping"), call("whoami")])
async def test_what_each_refusal_becomes(
    endpoint: Endpoint,
    message: dict[str, Any],
    reason: Reason,
    status: int,
    retry_after: str | None,
    error: str,
) -> None:
    session = await endpoint.open()
    endpoint.resolver.error = AuthError(reason, "what only the log may know")

    response = await endpoint.post(message, session=session, token="alice-1")

    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": status, "message": reason.message, "data": {"reason": reason.name}},
    }
    assert error in response.headers.get("www-authenticate", "")
    assert bool(error) == ("www-authenticate" in response.headers)


async def test_retry_after_is_whole_seconds_rounded_up(endpoint: Endpoint) -> None:
    endpoint.resolver.error = AuthError(Reason.OVERLOADED, retry_after_seconds=2.1)

    response = await endpoint.post(initialize())

    assert response.headers["retry-after"] == "3"


async def test_without_a_session_id_a_revoked_session_is_a_rejected_token(
    endpoint: Endpoint,
) -> None:
    endpoint.resolver.error = AuthError(Reason.SESSION_REVOKED)

    response = await endpoint.modern("server/discover", token="alice-1", session="ignored")

    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def is_told_nothing_of_it(
    endpoint: Endpoint, session: str, era: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The resolver's LookupError is a 500, and its message is not logged."""
    match era:
        case "legacy":
            response = await endpoint.post(call("whoami"), session=session, token="alice-1")
        case "modern":
            response = await endpoint.modern("server/discover", token="alice-1")
        case "initialize":
            response = await endpoint.post(initialize(), token="alice-1")
        case _:
            response = await delete(endpoint, session, "alice-1")

    assert response.status_code == 500
    assert response.json()["error"] == {"code": -32603, "message": "Internal server error."}
    assert "LookupError" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize("era", ["legacy", "modern", "initialize", "delete"])
async def test_a_resolver_that_fails_admits_no_request(
    endpoint: Endpoint, era: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = await endpoint.open("alice-1")
    endpoint.resolver.error = LookupError("no such thing as secret-token")

    await is_told_nothing_of_it(endpoint, session, era, caplog)


@pytest.mark.parametrize("era", ["legacy", "modern", "initialize", "delete"])
async def test_a_resolver_that_cannot_be_called_admits_no_request(
    endpoint: Endpoint, era: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails before there is anything to await."""
    session = await endpoint.open("alice-1")
    failure = LookupError("no such thing as secret-token")

    def broken(*args: object, **options: object) -> None:
        raise failure

    for name in ("resolve", "create", "revoke"):
        monkeypatch.setattr(endpoint.resolver, name, broken)

    await is_told_nothing_of_it(endpoint, session, era, caplog)


@pytest.mark.parametrize("version", [None, "2024-11-05", "2025-03-26", "2025-06-18", LEGACY])
async def test_without_a_session_id_there_is_no_session(
    endpoint: Endpoint, version: str | None
) -> None:
    response = await endpoint.post(call("whoami"), token="alice-1", version=version)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32600
    assert not endpoint.resolver.calls


async def test_an_empty_session_id_is_a_missing_one(endpoint: Endpoint) -> None:
    response = await endpoint.post(request("ping"), session="")

    assert response.status_code == 400


async def test_the_later_revision_ignores_a_session_id(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")

    response = await endpoint.modern(
        "tools/call", {"name": "whoami", "arguments": {}}, session=session, token="bob"
    )

    assert said(response) == "bob"
    assert "mcp-session-id" not in response.headers
    assert endpoint.resolver.calls[-1] == ("resolve", "", "bob")


async def test_an_unknown_revision_is_answered_with_the_supported_ones(endpoint: Endpoint) -> None:
    body = request("ping", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}})

    response = await endpoint.post(body, version="2099-01-01", token="alice-1")

    assert response.status_code == 400
    assert response.json()["error"]["code"] in {-32022, -32602}


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("bearer alice-1", "alice"),
        ("BEARER alice-1", "alice"),
        ("Bearer    alice-1", "alice"),
        ("Bearer\talice-1", "alice"),
    ],
)
async def test_spellings_of_one_token(endpoint: Endpoint, value: str, subject: str) -> None:
    session = await endpoint.open()

    response = await endpoint.post(
        call("whoami"), session=session, headers={"Authorization": value}
    )

    assert said(response) == subject
    assert endpoint.resolver.calls[-1] == ("resolve", session, "alice-1")


@pytest.mark.parametrize("value", ["Bearer", "", "Basic YTpi", "Beareralice-1"])
async def test_no_token(endpoint: Endpoint, value: str) -> None:
    session = await endpoint.open()
    headers = {"Authorization": value}

    closed = await endpoint.post(call("whoami"), session=session, headers=headers)
    opened = await endpoint.post(request("ping"), session=session, headers=headers)

    assert closed.status_code == 401
    assert "error=" not in closed.headers["www-authenticate"]
    assert opened.status_code == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_two_authorization_headers_are_rejected(endpoint: Endpoint, method: str) -> None:
    session = await endpoint.open()

    response = await endpoint.http.request(
        method,
        "/mcp",
        content=json.dumps(request("ping")),
        headers=[
            *TWO_AUTHORIZATIONS,
            ("Mcp-Session-Id", session),
            ("Content-Type", "application/json"),
        ],
    )

    assert response.status_code == 400
    assert 'error="invalid_request"' in response.headers["www-authenticate"]


async def test_two_session_ids_are_rejected(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    response = await endpoint.http.post(
        "/mcp",
        json=request("ping"),
        headers=[("Mcp-Session-Id", session), ("Mcp-Session-Id", session)],
    )

    assert response.status_code == 400


async def test_a_token_in_the_query_is_none(endpoint: Endpoint) -> None:
    session = await endpoint.open()

    response = await endpoint.post(
        call("whoami"), session=session, path="/mcp?access_token=alice-1"
    )

    assert response.status_code == 401


async def test_tools_never_see_the_token(endpoint: Endpoint) -> None:
    session = await endpoint.open()
    name = {"name": "headers", "arguments": {}}

    legacy = await endpoint.post(call("headers"), session=session, token="alice-1")
    modern = await endpoint.modern("tools/call", name, token="alice-1")

    assert "mcp-session-id" in said(legacy)
    assert "authorization" not in said(legacy) + said(modern)


async def test_what_is_authorised_is_the_body(endpoint: Endpoint) -> None:
    """The header names an open tool, the body a closed one: the body would be executed."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = request("tools/call", {"name": "whoami", "arguments": {}, "_meta": meta})
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "public"}

    anonymous = await endpoint.post(body, version=MODERN, headers=headers)
    known = await endpoint.post(body, version=MODERN, headers=headers, token="alice-1")

    assert anonymous.status_code == 401
    assert (known.status_code, known.json()["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize(
    "params", [None, {}, {"name": ["public"]}, {"name": {"public": 1}}, ["public"], "public"]
)
async def test_malformed_params_are_closed(endpoint: Endpoint, params: object) -> None:
    session = await endpoint.open()
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}

    response = await endpoint.post(body, session=session)

    assert response.status_code == 401


async def delete(endpoint: Endpoint, session: str | None, token: str | None) -> httpx2.Response:
    headers = {"Mcp-Session-Id": session, "Authorization": f"Bearer {token}" if token else None}
    sent = {name: value for name, value in headers.items() if value is not None}
    return await endpoint.http.delete("/mcp", headers=sent)


async def test_the_owner_ends_a_session(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")

    ended = await delete(endpoint, session, "alice-2")
    after = await endpoint.post(call("whoami"), session=session, token="alice-1")

    assert (ended.status_code, ended.content) == (204, b"")
    assert after.status_code == 404


async def test_no_other_caller_ends_it(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")

    refusals = [await delete(endpoint, session, token) for token in (None, "expired", "bob")]
    unknown = await delete(endpoint, "unknown", "bob")

    assert [response.status_code for response in refusals] == [401, 401, 404]
    assert refusals[2].content == unknown.content
    assert bare(refusals[2]) == bare(unknown)
    assert session in endpoint.resolver.sessions


async def test_delete_needs_a_session_id(endpoint: Endpoint) -> None:
    assert (await delete(endpoint, None, "alice-1")).status_code == 400


async def test_the_later_revision_has_nothing_to_delete(endpoint: Endpoint) -> None:
    session = await endpoint.open("alice-1")

    response = await endpoint.http.delete(
        "/mcp",
        headers={
            "Mcp-Session-Id": session,
            "Authorization": "Bearer alice-1",
            "MCP-Protocol-Version": MODERN,
        },
    )

    assert response.status_code == 405
    assert session in endpoint.resolver.sessions


@pytest.mark.parametrize("others", [[], [request("ping")]], ids=["alone", "among others"])
async def test_a_batch_opens_no_session(endpoint: Endpoint, others: list[object]) -> None:
    response = await endpoint.post([*others, initialize()], token="alice-1", version="2025-03-26")

    assert response.status_code == 400
    assert "initialize cannot be part of a batch" in response.json()["error"]["message"]
    assert endpoint.resolver.calls == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "TRACE"])
async def test_other_verbs_are_not_allowed(endpoint: Endpoint, method: str) -> None:
    response = await endpoint.http.request(method, "/mcp", headers={"Accept": "text/event-stream"})

    assert response.status_code == 405
    assert response.headers["allow"] == "POST, DELETE, OPTIONS"


async def test_a_refusal_is_logged_without_what_would_let_one_in(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    session = await endpoint.open("alice-1")
    caplog.set_level(logging.DEBUG, "authsvc.http_auth")

    await endpoint.post(call("whoami"), session=session, token="expired")

    (record,) = [record for record in caplog.records if record.name.startswith("authsvc.http_auth")]
    assert record.getMessage() == "request rejected: TOKEN_EXPIRED"
    assert record.__dict__["reason"] == "TOKEN_EXPIRED"
    assert record.__dict__["session"] == session[:8] + "…"
    assert record.__dict__["subject"] == ""  # of a token that is refused nothing is known
    assert session not in str(record.__dict__)

    caplog.clear()
    await endpoint.post(initialize(), token="expired")
    (record,) = [record for record in caplog.records if record.name.startswith("authsvc.http_auth")]
    assert record.__dict__["session"] == ""


@pytest.mark.parametrize(
    "reason",
    [
        *(Reason.CALLER_NOT_ALLOWED, Reason.RESOURCE_INVALID),
        *(Reason.STORE_UNAVAILABLE, Reason.KEYS_UNAVAILABLE, Reason.CONFLICT),
    ],
)
async def test_what_an_operator_has_to_mend_is_a_warning_at_a_bounded_rate(
    resolver: MemoryResolver,
    reason: Reason,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(resolving, "Rarely", partial(Rarely, clock=clock))
    caplog.set_level(logging.INFO, "authsvc.http_auth")

    async def levels_of(endpoint: Endpoint, refused: Reason) -> list[str]:
        resolver.error = AuthError(refused)
        caplog.clear()
        for _ in range(3):
            await endpoint.post(call("whoami"), session="s", token="alice-1")
        return [it.levelname for it in caplog.records if it.name == resolving.__name__]

    async with (
        running(demo_app(resolver, Meeting())) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, resolver, Meeting())
        assert await levels_of(endpoint, reason) == ["WARNING", "INFO", "INFO"]
        assert await levels_of(endpoint, reason) == ["INFO"] * 3
        clock.advance(resolving.WARNING_INTERVAL_SECONDS)
        assert await levels_of(endpoint, reason) == ["WARNING", "INFO", "INFO"]
        assert await levels_of(endpoint, Reason.SESSION_NOT_FOUND) == ["INFO"] * 3


@pytest.mark.parametrize("reason", [Reason.CALLER_NOT_ALLOWED, Reason.TOKEN_EXPIRED])
async def test_a_resource_that_authsvc_does_not_know_is_named(
    endpoint: Endpoint, resolver: MemoryResolver, reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authsvc.http_auth")
    resolver.error = AuthError(reason)
    answer = await endpoint.post(call("whoami"), session="s", token="alice-1")
    advice = f"this gate asks for resource {RESOURCE}; name it in authsvc's resources"
    assert (advice in caplog.text) == (reason is Reason.CALLER_NOT_ALLOWED)
    assert "resources" not in answer.text


def test_what_the_headers_say_is_shown_without_the_token() -> None:
    headers = [(b"authorization", b"Bearer secret")]
    caller = RequestHeaders.of(Headers(headers))
    assert caller.token == "secret"
    assert "secret" not in repr(caller)


async def test_an_observer_learns_each_call_before_it_is_authorised(
    resolver: MemoryResolver,
) -> None:
    seen: list[tuple[str, str, object]] = []

    def observer(scope: Scope, method: str, params: Mapping[str, Any]) -> None:
        seen.append((scope["path"], method, params.get("name")))
        with pytest.raises(TypeError):
            params["name"] = "another"  # type: ignore[index] # it must not

    gate = SessionGate(JSONResponse({}), resolver=resolver, resource=RESOURCE, observer=observer)
    async with (
        running(Starlette(routes=[Route("/mcp", gate)])) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, resolver, Meeting())
        refused = await endpoint.post(call("whoami"), version=MODERN)

    assert refused.status_code == 401
    assert seen == [("/mcp", "tools/call", "whoami")]


async def test_an_observer_sees_no_token_and_one_that_fails_serves_nobody(
    resolver: MemoryResolver, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bytes] = []

    def observer(scope: Scope, method: str, params: Mapping[str, Any]) -> None:
        seen.extend(name for name, _ in scope["headers"])
        raise ValueError(f"{method} of {params['name']}")

    gate = SessionGate(JSONResponse({}), resolver=resolver, resource=RESOURCE, observer=observer)
    async with (
        running(Starlette(routes=[Route("/mcp", gate)])) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, resolver, Meeting())
        failed = await endpoint.post(call("whoami"), version=MODERN, token="secret")

    assert failed.status_code == 500
    assert b"mcp-protocol-version" in seen
    assert b"authorization" not in seen
    assert "the observer failed" in caplog.text
    assert "whoami" not in failed.text + caplog.text


def test_an_observer_is_a_function_of_scope_method_and_params() -> None:
    with pytest.raises(TypeError, match="observer"):
        SessionGate(
            JSONResponse({}),
            resolver=MemoryResolver(),
            resource=RESOURCE,
            observer=lambda method: None,  # type: ignore[misc,arg-type] # wrong on purpose
        )
