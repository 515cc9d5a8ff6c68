"""The fake resolver for users' tests decides as authsvc does."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import Rate, RateLimit
from authsvc.domain.resolution import (
    Actor,
    BearerCredentials,
    NotOpenError,
    Outcome,
    Principal,
    Secret,
)
from mcp_adapter import Requirement, SessionGate, caller, current_caller
from mcp_adapter.testing import ISSUER, FakeResolver, as_caller
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

RESOURCE = "https://mcp.example/mcp"
ISSUED = BearerCredentials(Secret("for-the-api"), "Bearer", expire_time=2e9)


def test_a_tool_reads_the_caller_of_a_made_request() -> None:
    request = as_caller("alice", scopes=["things.read"], credentials=ISSUED)

    assert caller(request).subject == "alice"
    assert caller(request).scopes == ("things.read",)
    assert current_caller(request).credentials == ISSUED
    assert request.user.display_name == "alice"
    assert request.auth.scopes == ["things.read"]


def test_a_principal_is_the_caller_as_it_is() -> None:
    alice = Principal("https://idp.example", "alice", expire_time=2e9, roles=("reader",))

    assert caller(as_caller(alice)) == alice
    with pytest.raises(ValueError, match="scopes"):
        as_caller(alice, scopes=["things.read"])


LISTS: dict[str, Any] = {
    "scopes": ("a",),
    "roles": ("r",),
    "buckets": ("b",),
    "permissions": ("s3:GetObject",),
}


def test_a_subject_has_what_its_token_lists() -> None:
    alice = Principal(ISSUER, "alice", expire_time=2e9, **LISTS)
    resolver = FakeResolver()
    for made in (
        caller(as_caller("alice", **LISTS)),
        resolver.tokens[resolver.issue("alice", **LISTS)],
    ):
        assert {name: getattr(made, name) for name in LISTS} == LISTS
    for name, given in LISTS.items():
        wrong: dict[str, Any] = {name: given}
        for make in (as_caller, resolver.issue):
            with pytest.raises(ValueError, match=f"{name}: a Principal has its own"):
                make(alice, **wrong)
            with pytest.raises(TypeError, match=f"{name} is a sequence of strings"):
                make("alice", **{name: given[0]})
        with pytest.raises(ValueError, match=f"{name}: a request without a token has none"):
            as_caller(None, **wrong)


def test_an_actor_acts_for_the_caller() -> None:
    chain = Actor("agent", actor=Actor("first"))
    assert caller(as_caller("alice", actor="agent")).actor == Actor("agent")
    assert caller(as_caller("alice", actor=chain)).actor == chain
    assert caller(as_caller("alice")).actor is None
    resolver = FakeResolver()
    assert resolver.tokens[resolver.issue("alice", actor="agent")].actor == Actor("agent")
    alice = Principal("https://idp.example", "alice", expire_time=2e9, actor=chain)
    assert caller(as_caller(alice)).actor == chain
    with pytest.raises(ValueError, match="actor: a Principal has its own"):
        as_caller(alice, actor="agent")
    with pytest.raises(ValueError, match="actor: a request without a token has none"):
        as_caller(None, actor="agent")


def test_a_made_request_without_a_caller_has_none() -> None:
    request = as_caller(None)

    assert current_caller(request).principal is None
    assert not request.user.is_authenticated
    with pytest.raises(LookupError, match="no token"):
        caller(request)


async def whoami(request: Request) -> JSONResponse:
    message = request.state.mcp_message
    resolution = current_caller(request)
    subject = resolution.principal.subject if resolution.principal else None
    return JSONResponse({"jsonrpc": "2.0", "id": message.get("id"), "result": subject})


def client_of(resolver: FakeResolver) -> TestClient:
    def requirement(method: str, params: object) -> Requirement | None:
        return Requirement(("things.read",)) if method == "tools/call" else None

    app = Starlette(routes=[Route("/mcp", whoami, methods=["POST"])])
    gate = SessionGate(app, resolver=resolver, resource=RESOURCE, requirement=requirement)
    return TestClient(gate)


def message(method: str) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}


def test_an_app_is_served_behind_a_gate_with_a_fake_resolver() -> None:
    resolver = FakeResolver()
    alice = resolver.issue("alice", scopes=["things.read"])
    narrow = resolver.issue("alice")

    with client_of(resolver) as client:
        opened = client.post("/mcp", json=message("initialize"))
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        statuses = [
            client.post(
                "/mcp",
                json=message("tools/call"),
                headers=session | ({"Authorization": f"Bearer {token}"} if token else {}),
            ).status_code
            for token in ("", narrow, alice, "unknown")
        ]

    assert statuses == [401, 403, 200, 401]
    assert resolver.sessions == {session["Mcp-Session-Id"]: (ISSUER, "alice")}


async def test_a_session_belongs_to_its_first_subject() -> None:
    async with FakeResolver() as resolver:
        alice, mallory = resolver.issue("alice"), resolver.issue("mallory")
        created = await resolver.create("", resource=RESOURCE)
        assert created.outcome is Outcome.CREATED
        assert created.session is not None

        await resolver.resolve(created.session.id, alice, resource=RESOURCE)
        with pytest.raises(AuthError) as mismatch:
            await resolver.resolve(created.session.id, mallory, resource=RESOURCE)

        assert mismatch.value.reason is Reason.SESSION_SUBJECT_MISMATCH


async def test_the_same_subject_of_another_issuer_is_another_one() -> None:
    async with FakeResolver() as resolver:
        alice = resolver.issue("alice")
        other = resolver.issue(Principal("https://other.example", "alice", expire_time=2e9))
        created = await resolver.create(alice, resource=RESOURCE)
        assert created.session is not None

        with pytest.raises(AuthError) as mismatch:
            await resolver.resolve(created.session.id, other, resource=RESOURCE)

        assert mismatch.value.reason is Reason.SESSION_SUBJECT_MISMATCH
        assert resolver.sessions == {created.session.id: (ISSUER, "alice")}


async def test_a_session_is_known_until_it_is_revoked() -> None:
    async with FakeResolver() as resolver:
        await resolver.resolve("mine", "", resource=RESOURCE, create=True)

        await resolver.revoke("mine")

        with pytest.raises(AuthError) as unknown:
            await resolver.resolve("mine", "", resource=RESOURCE)
        assert unknown.value.reason is Reason.SESSION_NOT_FOUND


async def test_a_token_is_rejected_for_its_reason() -> None:
    async with FakeResolver() as resolver:
        revoked = resolver.issue("alice")
        resolver.reject(revoked)
        expired = resolver.issue(Principal("https://idp.example", "alice", expire_time=1.0))
        reasons = []
        for token in (revoked, expired, "unknown"):
            with pytest.raises(AuthError) as rejected:
                await resolver.resolve("", token, resource=RESOURCE)
            reasons.append(rejected.value.reason)

        assert reasons == [Reason.TOKEN_REVOKED, Reason.TOKEN_EXPIRED, Reason.TOKEN_MALFORMED]


async def test_without_a_session_id_the_token_says_who_calls() -> None:
    async with FakeResolver() as resolver:
        alice = resolver.issue("alice", credentials=ISSUED)

        known = await resolver.resolve("", alice, resource=RESOURCE)
        unknown = await resolver.resolve("", "", resource=RESOURCE)

        assert known.principal is not None
        assert known.credentials == ISSUED
        assert unknown.principal is None
        assert unknown.session is None
        assert resolver.sessions == {}


async def test_every_call_raises_the_error_that_is_set() -> None:
    async with FakeResolver() as resolver:
        resolver.error = AuthError(Reason.STORE_UNAVAILABLE)

        for call in (
            resolver.resolve("", "", resource=RESOURCE),
            resolver.create("", resource=RESOURCE),
            resolver.revoke("mine"),
        ):
            with pytest.raises(AuthError) as unavailable:
                await call
            assert unavailable.value.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("who", 7, TypeError),
        ("who", "", ValueError),
        ("scopes", "things.read", TypeError),
        ("scopes", ["a b"], ValueError),
        ("scopes", None, TypeError),
        ("credentials", "secret", TypeError),
        ("actor", "", ValueError),
        ("actor", {"sub": "agent"}, TypeError),
    ],
)
def test_an_argument_that_is_wrong_is_named(
    name: str, value: object, error: type[Exception]
) -> None:
    given: dict[str, Any] = {"who": "alice", "scopes": [], "credentials": None, name: value}
    for make in (as_caller, FakeResolver().issue):
        with pytest.raises(error, match=name):
            make(**given)


def test_a_request_without_a_token_has_no_scopes() -> None:
    with pytest.raises(ValueError, match="scopes: a request without a token has none"):
        as_caller(None, scopes=["things.read"])


@pytest.mark.parametrize(("token", "reason"), [(None, Reason.TOKEN_REVOKED), ("t", "REVOKED")])
def test_what_is_rejected_is_a_token_for_a_reason(token: object, reason: object) -> None:
    given: dict[str, Any] = {"token": token, "reason": reason}
    with pytest.raises(TypeError, match="token" if token is None else "reason"):
        FakeResolver().reject(**given)


async def test_it_is_open_within_async_with_as_a_client_is() -> None:
    resolver = FakeResolver()
    for call in (
        resolver.resolve("", "", resource=RESOURCE),
        resolver.create("", resource=RESOURCE),
        resolver.revoke("mine"),
    ):
        with pytest.raises(NotOpenError, match="FakeResolver is used within `async with`"):
            await call

    async with resolver, resolver:
        await resolver.create("", resource=RESOURCE)
    with pytest.raises(NotOpenError):
        await resolver.create("", resource=RESOURCE)


async def test_limits_are_those_of_authsvc() -> None:
    limit = RateLimit("search", Rate(1.0, 2.0))
    resolver, clock = FakeResolver(), Clock()
    resolver.clock = clock
    async with resolver:
        token = resolver.issue("ada")
        await resolver.create(token, resource=RESOURCE, rate_limits=[limit])
        await resolver.resolve("", token, resource=RESOURCE, rate_limits=[limit])
        for _ in range(3):
            await resolver.resolve("", token, resource=RESOURCE, rate_limits=[limit], recheck=True)
            await resolver.resolve("", "", resource=RESOURCE, rate_limits=[limit])
            with pytest.raises(AuthError) as caught:
                await resolver.resolve("", token, resource=RESOURCE, rate_limits=[limit])
            assert (caught.value.reason, caught.value.limit) == (Reason.RATE_LIMITED, "search")
        assert caught.value.retry_after_seconds == 1.0
        clock.advance(1.0)
        await resolver.resolve("", token, resource=RESOURCE, rate_limits=[limit])


async def test_the_session_of_another_counts_as_nothing() -> None:
    limit = RateLimit("search", Rate(1e-6, 1.0))
    async with FakeResolver() as resolver:
        ada, bob = resolver.issue("ada"), resolver.issue("bob")
        await resolver.resolve("s", ada, resource=RESOURCE, create=True)
        for _ in range(3):
            with pytest.raises(AuthError) as caught:
                await resolver.resolve("s", bob, resource=RESOURCE, rate_limits=[limit])
            assert caught.value.reason is Reason.SESSION_SUBJECT_MISMATCH
            with pytest.raises(AuthError) as caught:
                await resolver.resolve("none", bob, resource=RESOURCE, rate_limits=[limit])
            assert caught.value.reason is Reason.SESSION_NOT_FOUND
        await resolver.resolve("", bob, resource=RESOURCE, rate_limits=[limit])
