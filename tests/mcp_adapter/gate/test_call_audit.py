"""Each call at the gate is audited: who called what, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from starlette.responses import JSONResponse

from authsvc.audit.call_event import MAX_VALUE_CHARACTERS, CallEvent, CallOutcome
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, Principal, shown
from tests.mcp_adapter.gate.direct import gated, posted
from tests.mcp_adapter.harness import (
    ISSUER,
    LEGACY,
    MODERN,
    RESOURCE,
    SCOPES,
    Endpoint,
    MemoryResolver,
    call,
    initialize,
    owner,
    request,
)
from tests.support.audited import Collected

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def endpoint(audited_endpoint: Endpoint) -> Endpoint:
    return audited_endpoint


async def test_a_call_says_who_called_what(endpoint: Endpoint, audit: Collected) -> None:
    actor = Actor("agent", "https://agents.example", actor=Actor("planner", client_id="p1"))
    endpoint.resolver.tokens["alice-1"] = Principal(
        ISSUER, "alice", client_id="app", expire_time=2e9, scopes=SCOPES, actor=actor
    )
    session = await endpoint.open("alice-1")
    audit.events.clear()

    headers = {"traceparent": TRACEPARENT}
    await endpoint.post(call("whoami"), session=session, token="alice-1", headers=headers)

    event = audit.take()
    assert event.duration_seconds > 0.0
    assert event == CallEvent(
        "tools/call",
        CallOutcome.SUCCEEDED,
        tool="whoami",
        status=200,
        duration_seconds=event.duration_seconds,
        session=shown(session),
        resource=RESOURCE,
        issuer=ISSUER,
        subject="alice",
        client_id="app",
        actors=(actor, Actor("planner", client_id="p1")),
        trace_id=TRACE,
        client_address="127.0.0.1",
    )


async def test_a_call_without_a_session_says_the_same(endpoint: Endpoint, audit: Collected) -> None:
    meta = {"traceparent": f"00-{OTHER_TRACE}-00f067aa0ba902b7-01"}
    headers = {"traceparent": TRACEPARENT, "Mcp-Method": "tools/call", "Mcp-Name": "whoami"}
    meta |= {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},  # type: ignore[dict-item] # JSON
    }
    body = request("tools/call", {"name": "whoami", "arguments": {}, "_meta": meta})
    response = await endpoint.post(body, token="bob", version=MODERN, headers=headers)

    assert response.status_code == 200
    event = audit.take()
    assert (event.method, event.tool, event.subject) == ("tools/call", "whoami", "bob")
    assert event.outcome is CallOutcome.SUCCEEDED
    assert event.trace_id == OTHER_TRACE  # the message's own, before that of the HTTP request
    assert event.session == shown("~principal")


async def test_the_servers_own_trace_comes_first(endpoint: Endpoint, audit: Collected) -> None:
    audit.traceparent = lambda: f"00-{OTHER_TRACE}-00f067aa0ba902b7-01"

    await endpoint.post(initialize(), headers={"traceparent": TRACEPARENT})

    assert audit.take().trace_id == OTHER_TRACE


async def test_initialize_has_the_session_that_it_opens(
    endpoint: Endpoint, audit: Collected
) -> None:
    session = await endpoint.open()

    event = audit.take()
    assert (event.method, event.tool) == ("initialize", "")
    assert (event.session, event.subject, event.actors) == (shown(session), "", ())


async def test_initialize_of_an_app_with_sessions_has_the_id_that_it_mints(
    audit: Collected, resolver: MemoryResolver
) -> None:
    answer = JSONResponse({"jsonrpc": "2.0", "id": 7, "result": {}}, headers=MINTED)

    await posted(gated(answer, resolver, audit, stateful=True), initialize(), token="alice-1")

    assert audit.take().session == shown("minted-by-the-app")
    assert resolver.sessions == {"minted-by-the-app": owner("alice")}


MINTED = {"Mcp-Session-Id": "minted-by-the-app"}


@pytest.mark.parametrize(
    ("method", "params", "tool"),
    [
        ("tools/call", {"name": "whoami", "arguments": {}}, "whoami"),
        ("prompts/get", {"name": "greet"}, "greet"),
        ("resources/read", {"uri": "file:///a/b"}, "file:///a/b"),
        ("resources/read", {"uri": "https://u:p@h/a?key=secret#x"}, "https://h/a"),
        ("resources/subscribe", {"uri": "no uri?secret"}, "no uri"),
        ("Tools/CALL ", {"name": "whoami"}, "whoami"),
        ("tools/call", {"name": ["whoami"]}, ""),
        ("tools/call", ["whoami"], ""),
        ("tools/list", {"name": "secret"}, ""),
        ("ping", None, ""),
    ],
)
async def test_what_is_called(
    endpoint: Endpoint, audit: Collected, method: str, params: object, tool: str
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()

    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    await endpoint.post(body, session=session, token="alice-1")

    event = audit.take()
    assert (event.method, event.tool) == (method, tool)


async def test_an_open_call_is_nobodys(endpoint: Endpoint, audit: Collected) -> None:
    await endpoint.modern("tools/list")

    event = audit.take()
    assert (event.method, event.outcome) == ("tools/list", CallOutcome.SUCCEEDED)
    assert (event.session, event.issuer, event.subject) == ("", "", "")


async def test_texts_are_of_bounded_length(endpoint: Endpoint, audit: Collected) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()

    await endpoint.post(call("t" * 9000), session=session, token="alice-1")
    await endpoint.post(request("m" * 9000), session=session, token="alice-1")

    assert [len(event.tool) for event in audit.events] == [MAX_VALUE_CHARACTERS, 0]
    assert len(audit.events[1].method) == MAX_VALUE_CHARACTERS


ARGUMENTS = {
    "bucket": "b" * 9000,
    "count": 3.5,
    "deep": {"secret": 1},
    "undeclared": "secret",
}


async def test_declared_arguments_alone_are_audited(endpoint: Endpoint, audit: Collected) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    for name, method in (("whoami", "tools/call"), ("public", "tools/call"), ("whoami", "ping")):
        body = request(method, {"name": name, "arguments": ARGUMENTS})
        await endpoint.post(body, session=session, token="alice-1")
    body = request("tools/call", {"name": "whoami", "arguments": ["secret"]})
    await endpoint.post(body, session=session, token="alice-1")

    assert len(audit.events[0].arguments["bucket"]) == MAX_VALUE_CHARACTERS
    assert {**audit.events[0].arguments, "bucket": ""} == {"bucket": "", "count": "3.5"}
    assert [dict(event.arguments) for event in audit.events[1:]] == [{}, {}, {}]
    assert "secret" not in repr(audit.events)


@dataclass
class Refused:
    """A request that is refused, and how that is audited."""

    body: object
    status: int
    reason: str
    token: str | None = "alice-1"
    session: str | None = ""  # that of the test
    version: str | None = LEGACY
    method: str = "tools/call"
    headers: Mapping[str, str] | None = None
    subject: str = ""


REFUSED = {
    "no-token": Refused(call("whoami"), 401, "UNAUTHORIZED", token=None),
    "expired": Refused(call("whoami"), 401, "TOKEN_EXPIRED", token="expired"),
    "unknown-token": Refused(call("whoami"), 401, "TOKEN_MALFORMED", token="forged"),
    "scope": Refused(
        call("write"), 403, "INSUFFICIENT_SCOPE", token="alice-reader", subject="alice"
    ),
    "other-subject": Refused(call("whoami"), 404, "SESSION_SUBJECT_MISMATCH", token="bob"),
    "unknown-session": Refused(call("whoami"), 404, "SESSION_NOT_FOUND", session="unknown-session"),
    "no-session": Refused(call("whoami"), 400, "BAD_REQUEST", session=None),
    "unknown-version": Refused(
        call("whoami"), 400, "BAD_REQUEST", version="1999-01-01", method="POST"
    ),
    "no-json": Refused(b"{", 400, "BAD_REQUEST", method="POST"),
    "no-message": Refused(b"3", 400, "BAD_REQUEST", method="POST"),
    "no-type": Refused(
        b"{}", 415, "UNSUPPORTED_MEDIA_TYPE", method="POST", headers={"Content-Type": "text/plain"}
    ),
    "long": Refused(b'"%b"' % (b"x" * 5_000_000), 413, "CONTENT_TOO_LARGE", method="POST"),
    "long-anonymous": Refused(
        b'"%b"' % (b"x" * 70_000), 401, "UNAUTHORIZED", method="POST", token=None
    ),
    "mismatch": Refused(
        request(
            "tools/call",
            {
                "name": "whoami",
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        ),
        400,
        "BAD_REQUEST",
        version=MODERN,
        headers={"Mcp-Method": "tools/call", "Mcp-Name": "public"},
        subject="alice",
    ),
    "notification": Refused(
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        401,
        "TOKEN_EXPIRED",
        token="expired",
        method="notifications/cancelled",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_is_audited_with_its_reason(
    endpoint: Endpoint, audit: Collected, name: str
) -> None:
    case = REFUSED[name]
    session = await endpoint.open("alice-1")
    audit.events.clear()

    response = await endpoint.post(
        case.body,
        session=session if case.session == "" else case.session,
        token=case.token,
        version=case.version,
        headers=case.headers,
    )

    assert response.status_code == case.status, response.text
    event = await audit.next()
    assert event.outcome is CallOutcome.DENIED
    assert (event.method, event.status, event.reason) == (case.method, case.status, case.reason)
    assert event.subject == case.subject


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.CREDENTIALS_REFUSED])
async def test_who_is_denied_with_a_valid_token_is_audited(
    endpoint: Endpoint, audit: Collected, reason: Reason
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    whose = Principal("https://idp.example", "alice", 2e9, client_id="app", actor=Actor("agent"))
    endpoint.resolver.error = AuthError(reason, principal=whose)

    await endpoint.post(call("whoami"), session=session, token="alice-1")

    event = audit.take()
    assert (event.outcome, event.reason) == (CallOutcome.DENIED, reason.name)
    assert (event.issuer, event.subject, event.client_id) == (whose.issuer, "alice", "app")
    assert event.actors == (Actor("agent"),)
    assert event.session


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.STORE_UNAVAILABLE, 503),
        (Reason.OVERLOADED, 429),
        (Reason.CALLER_NOT_ALLOWED, 500),
    ],
)
async def test_an_outage_is_audited(
    endpoint: Endpoint, audit: Collected, reason: Reason, status: int
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    endpoint.resolver.error = AuthError(reason)

    response = await endpoint.post(call("whoami"), session=session, token="alice-1")

    event = audit.take()
    assert event.status == response.status_code
    assert (event.outcome, event.reason) == (CallOutcome.DENIED, reason.name)


@pytest.mark.parametrize(
    "reason", [Reason.SESSION_REVOKED, Reason.SESSION_EXPIRED, Reason.SESSION_NOT_FOUND]
)
async def test_the_audit_says_what_became_of_a_session_and_its_client_is_not_told(
    endpoint: Endpoint, audit: Collected, reason: Reason
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    endpoint.resolver.error = AuthError(reason)

    response = await endpoint.post(call("whoami"), session=session, token="alice-1")

    assert audit.endings() == [("tools/call", "DENIED", reason.name)]
    assert response.status_code == 404
    assert response.json()["error"]["data"] == {"reason": "SESSION_NOT_FOUND"}


@pytest.mark.parametrize(
    ("tool", "ending"),
    [
        ("whoami", ("SUCCEEDED", "")),
        ("refuse", ("FAILED", "JSON_RPC_ERROR")),
        ("break", ("FAILED", "JSON_RPC_ERROR")),
    ],
)
@pytest.mark.parametrize("era", [LEGACY, MODERN])
@pytest.mark.parametrize("streams", [True, False])
async def test_a_call_that_fails(
    endpoint: Endpoint,
    audit: Collected,
    tool: str,
    ending: tuple[str, str],
    era: str,
    streams: bool,
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    meta = {"progressToken": 1} if streams else {}

    if era == LEGACY:
        await endpoint.post(call(tool, _meta=meta), session=session, token="alice-1")
    else:
        await endpoint.modern("tools/call", {"name": tool, "arguments": {}}, token="alice-1")

    event = audit.take()
    assert (event.outcome.value, event.reason) == ending


async def test_a_batch_has_an_event_for_each_call(endpoint: Endpoint, audit: Collected) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    batch = [
        call("whoami", 1),
        call("refuse", "two"),
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "id": 4, "result": {}},
        3,
    ]

    await endpoint.post(batch, session=session, token="alice-1", version="2025-03-26")

    assert audit.endings() == [
        ("tools/call", "SUCCEEDED", ""),
        ("tools/call", "FAILED", "JSON_RPC_ERROR"),
        ("notifications/cancelled", "SUCCEEDED", ""),
    ]
    assert [event.tool for event in audit.events] == ["whoami", "refuse", ""]


async def test_a_refused_batch_has_an_event_for_each_call(
    endpoint: Endpoint, audit: Collected
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()
    batch = [call("whoami", 1), request("ping", request_id=2)]

    await endpoint.post(batch, session=session, version="2025-03-26")

    assert audit.endings() == [
        ("tools/call", "DENIED", "UNAUTHORIZED"),
        ("ping", "DENIED", "UNAUTHORIZED"),
    ]


@pytest.mark.parametrize("token", ["alice-1", "expired"])
async def test_a_clients_response_is_no_call(
    endpoint: Endpoint, audit: Collected, token: str
) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()

    await endpoint.post({"jsonrpc": "2.0", "id": 4, "result": {}}, session=session, token=token)

    assert audit.events == []


async def test_a_session_that_is_ended(endpoint: Endpoint, audit: Collected) -> None:
    session = await endpoint.open("alice-1")
    audit.events.clear()

    for token in ("bob", "alice-1"):
        headers = {
            "Mcp-Session-Id": session,
            "MCP-Protocol-Version": LEGACY,
            "Authorization": f"Bearer {token}",
        }
        await endpoint.http.delete("/mcp", headers=headers)

    assert audit.endings() == [
        ("DELETE", "DENIED", "SESSION_SUBJECT_MISMATCH"),
        ("DELETE", "SUCCEEDED", ""),
    ]
    assert [event.status for event in audit.events] == [404, 204]
    assert [event.subject for event in audit.events] == ["", "alice"]
    assert {event.session for event in audit.events} == {shown(session)}


async def test_what_is_decided_for_every_caller_is_not_audited(
    endpoint: Endpoint, audit: Collected
) -> None:
    for method, path in (
        *(("GET", "/mcp"), ("OPTIONS", "/mcp"), ("PUT", "/mcp"), ("GET", "/healthz")),
        ("GET", "/.well-known/oauth-protected-resource/mcp"),
    ):
        await endpoint.http.request(method, path)

    assert audit.events == []


async def test_calls_outside_the_sample_are_not_audited(
    endpoint: Endpoint, audit: Collected
) -> None:
    audit.wanted = False

    await endpoint.open("alice-1")

    assert audit.events == []
