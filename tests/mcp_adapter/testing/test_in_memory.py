"""authsvc in memory decides as the service does."""

from __future__ import annotations

from typing import Any

import pytest

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import Rate, RateLimit
from authsvc.domain.resolution import BearerCredentials, NotOpenError, Outcome, Principal, Secret
from mcp_adapter.testing import InMemoryAuthsvc
from mcp_adapter.testing.principals import LIFETIME_SECONDS
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

pytest_plugins = ["mcp_adapter.testing.plugin"]
RESOURCE = "https://mcp.example/mcp"


async def reason_of(service: InMemoryAuthsvc, session_id: str, token: str) -> Reason | None:
    try:
        await service.resolve(session_id, token, resource=RESOURCE)
    except AuthError as error:
        return error.reason
    return None


async def test_the_fixture_is_an_authsvc_of_its_own(in_memory_authsvc: InMemoryAuthsvc) -> None:
    async with in_memory_authsvc as service:
        created = await service.create("", resource=RESOURCE)
        assert created.session is not None
        token = service.token("ada", scopes=["a", "b"], roles=["reader"], client_id="app")
        found = await service.resolve(created.session.id, token, resource=RESOURCE)
    assert found.outcome is Outcome.REAUTHENTICATED
    principal = found.principal
    assert principal is not None
    assert (principal.subject, principal.scopes, principal.roles, principal.client_id) == (
        "ada",
        ("a", "b"),
        ("reader",),
        "app",
    )
    assert found.credentials is None


async def test_another_subject_never_gets_in() -> None:
    async with InMemoryAuthsvc(RESOURCE) as service:
        await service.resolve("s", service.token("ada"), resource=RESOURCE, create=True)
        bob = service.token("bob")
        assert await reason_of(service, "s", bob) is Reason.SESSION_SUBJECT_MISMATCH


async def test_tokens_that_are_not_valid() -> None:
    async with InMemoryAuthsvc(RESOURCE) as service:
        for claims, reason in (
            ({"aud": "https://other.example/mcp"}, Reason.TOKEN_AUDIENCE_MISMATCH),
            ({"aud": None}, Reason.TOKEN_AUDIENCE_MISMATCH),
            ({"iss": "https://other.example"}, Reason.TOKEN_ISSUER_UNKNOWN),
            ({"lifetime_seconds": -60}, Reason.TOKEN_EXPIRED),
        ):
            given: dict[str, Any] = claims
            assert await reason_of(service, "", service.token("ada", **given)) is reason
        assert await reason_of(service, "", "no token") is Reason.TOKEN_MALFORMED
        theirs = InMemoryAuthsvc(RESOURCE).token("ada")
        assert await reason_of(service, "", theirs) is Reason.TOKEN_SIGNATURE_INVALID


async def test_sessions_and_subjects_are_revoked() -> None:
    clock = Clock()
    async with InMemoryAuthsvc(RESOURCE, clock=clock) as service:
        before = service.token("ada")
        await service.resolve("s", before, resource=RESOURCE, create=True)
        await service.revoke_subject("ada")
        assert await reason_of(service, "s", before) is Reason.TOKEN_REVOKED
        clock.advance(1.0)
        assert await reason_of(service, "s", service.token("ada")) is None
        await service.revoke("s")
        assert await reason_of(service, "s", service.token("ada")) is Reason.SESSION_REVOKED


async def test_a_token_expires_by_the_clock() -> None:
    clock = Clock()
    async with InMemoryAuthsvc(RESOURCE, clock=clock) as service:
        token = service.token("ada")
        assert await reason_of(service, "", token) is None
        clock.advance(LIFETIME_SECONDS + 60)
        assert await reason_of(service, "", token) is Reason.TOKEN_EXPIRED


async def test_credentials_are_those_that_the_test_gives() -> None:
    def credentials(principal: Principal) -> BearerCredentials:
        return BearerCredentials(Secret(principal.subject), "Bearer", expire_time=4e9)

    async with InMemoryAuthsvc(RESOURCE, credentials=credentials) as service:
        found = await service.resolve("", service.token("ada"), resource=RESOURCE)
    assert isinstance(found.credentials, BearerCredentials)
    assert found.credentials.access_token == Secret("ada")


async def test_a_name_without_credentials_is_an_error() -> None:
    """As with authsvc, whose configuration may have none at all."""
    async with InMemoryAuthsvc(RESOURCE) as service:
        found = await service.resolve(
            "", service.token("ada"), resource=RESOURCE, credentials=[CredentialRequest("api")]
        )
        default = await service.resolve("", service.token("ada"), resource=RESOURCE)
    with pytest.raises(AuthError) as refused:
        found.credentials_of("api")
    assert refused.value.reason is Reason.ARGUMENT_INVALID
    assert default.credentials is None


async def test_it_is_for_one_resource() -> None:
    async with InMemoryAuthsvc(RESOURCE) as service:
        token = service.token("ada")
        await service.resolve("", token, resource="https://mcp.example:443/mcp")
        for resource, reason in (
            ("https://other.example/mcp", Reason.CALLER_NOT_ALLOWED),
            ("no resource", Reason.RESOURCE_INVALID),
        ):
            with pytest.raises(AuthError) as refused:
                await service.create(token, resource=resource)
            assert refused.value.reason is reason


async def test_it_is_open_within_async_with_and_begins_anew() -> None:
    service = InMemoryAuthsvc(RESOURCE)
    with pytest.raises(NotOpenError, match="InMemoryAuthsvc is used within `async with`"):
        await service.create("", resource=RESOURCE)
    async with service:
        async with service:
            await service.resolve("s", "", resource=RESOURCE, create=True)
        assert await reason_of(service, "s", "") is None
    async with service:
        assert await reason_of(service, "s", "") is Reason.SESSION_NOT_FOUND


@pytest.mark.parametrize(
    ("name", "value"), [("resource", "nothing"), ("clock", 7), ("credentials", "secret")]
)
def test_an_argument_that_is_wrong_is_named(name: str, value: object) -> None:
    given: dict[str, Any] = {"resource": RESOURCE, name: value}
    with pytest.raises((TypeError, ValueError), match=name):
        InMemoryAuthsvc(**given)


@pytest.mark.parametrize("given", [{"scopes": "a"}, {"roles": "a"}, {"subject": None}])
def test_a_token_of_wrong_arguments_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(given))):
        InMemoryAuthsvc(RESOURCE).token(**({"subject": "ada"} | given))


async def test_limits_are_those_of_authsvc() -> None:
    clock, limit = Clock(), RateLimit("search", Rate(1.0, 2.0))
    async with InMemoryAuthsvc(RESOURCE, clock=clock) as service:
        token = service.token("ada")
        await service.create(token, resource=RESOURCE, rate_limits=[limit])
        await service.resolve("", token, resource=RESOURCE, rate_limits=[limit])
        await service.resolve("", token, resource=RESOURCE, rate_limits=[limit], recheck=True)
        with pytest.raises(AuthError) as caught:
            await service.resolve("", token, resource=RESOURCE, rate_limits=[limit])
        assert caught.value.limit == "search"
        clock.advance(caught.value.retry_after_seconds or 0.0)
        await service.resolve("", token, resource=RESOURCE, rate_limits=[limit])
