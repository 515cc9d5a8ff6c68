"""A certified identity provider (npm ``oidc-provider``) as the issuer of a running authsvc.

No valid token is rejected, whatever grant issued it; no other token is accepted.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Outcome, Principal
from authsvc.server.config import Settings
from authsvc.tokens.discovery import DEFAULT_MAX_AGE_SECONDS
from authsvc.tokens.introspection import CACHE_SECONDS
from authsvc.tokens.jwt import JwtVerifier
from authsvc.tokens.sources import COOL_DOWN_SECONDS
from mcp_adapter import Requirement, default_requirement
from mcp_adapter.server.app import build_app
from mcp_adapter.server.config import Settings as AdapterSettings
from tests.mcp_adapter.harness import Meeting, call, demo_server, initialize, running, said
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.oidc_provider import (
    APP,
    AUTHSVC_KEY_PEM,
    AUTHSVC_METHODS,
    DAEMON,
    DEVICE,
    Grant,
    OidcProvider,
    serving_oidc_provider,
)
from tests.support.service import Service, serving, settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

FORMATS = pytest.mark.parametrize("resource", [RESOURCE, OTHER_RESOURCE], ids=["jwt", "opaque"])
"""The resource, by the format of its access tokens."""

ALGORITHMS = ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA"]

CLIENT_AS_SUBJECT = {"claims": {"subject": ["sub", "client_id"]}}
"""No user is behind client credentials: an introspection response then has no ``sub``."""


FIRST, SECOND, THIRD = (("first", "ES256"), ("second", "ES256"), ("third", "ES256"))
"""Signing keys: a kid and its algorithm."""


@pytest.fixture(scope="module")
def running_provider() -> Iterator[OidcProvider]:
    with serving_oidc_provider() as running:
        yield running


@pytest.fixture
async def provider(running_provider: OidcProvider) -> OidcProvider:
    """It signs with one key, whichever keys a test before published."""
    await running_provider.publish(FIRST)
    return running_provider


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at the time of the provider, which has no other."""
    return Clock(time.time())


def configured(
    folder: Path,
    provider: OidcProvider,
    method: str = "client_secret_basic",
    issuer: Mapping[str, object] = {},
    introspection: Mapping[str, object] = {},
) -> Settings:
    """Settings that trust the provider: its JWTs by its keys, its opaque tokens by introspection.

    Args:
        method: how authsvc authenticates.
        issuer: further settings of ``[[issuers]]``.
        introspection: further settings of ``[introspection]``.
    """
    files = {"client_secret_file": provider.secret}
    if method == "private_key_jwt":
        files = {"private_key_file": AUTHSVC_KEY_PEM}
    for name, text in files.items():
        (folder / name).write_text(text)
    changes: dict[str, Any] = {}
    if introspection.get("tokens") != "all":
        table = {"issuer": provider.issuer, "algorithms": ["ES256"], "discover": True}
        changes["issuers"] = [{**table, **issuer}]
    return settings_for(
        folder,
        IdentityProvider(),
        introspection={
            "issuer": provider.issuer,
            "tokens": "opaque",
            "endpoint": f"{provider.issuer}/token/introspection",
            "client_id": method,
            "auth_method": method,
            **{name: folder / name for name in files},
            **introspection,
        },
        **changes,
    )


async def accepted(service: Service, token: str, resource: str = RESOURCE) -> Principal:
    """The principal of a token."""
    found = (await service.client.resolve("", token, resource=resource)).principal
    assert found is not None
    return found


async def refusal(
    service: Service, token: str, resource: str = RESOURCE, session: str = ""
) -> Reason:
    """Why a token is rejected."""
    with pytest.raises(AuthError) as caught:
        await service.client.resolve(session, token, resource=resource)
    return caught.value.reason


def claims(principal: Principal) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(principal.claims_json)
    return found


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, which is not verified."""
    return jwt.decode(token, options={"verify_signature": False})


async def granted(provider: OidcProvider, client: str, resource: str) -> Grant:
    """A grant of the kind that a client has."""
    if client == DAEMON:
        return await provider.client_credentials(resource=resource)
    kind = provider.device if client == DEVICE else provider.log_in
    return await kind(resource=resource)


@FORMATS
async def test_client_credentials(
    tmp_path: Path, provider: OidcProvider, clock: Clock, resource: str
) -> None:
    settings = configured(tmp_path, provider, introspection=CLIENT_AS_SUBJECT)
    grant = await provider.client_credentials(resource=resource)
    async with serving(settings, clock) as service:
        first = await service.client.create(grant.access, resource=resource)
        assert first.session is not None
        again = await service.client.resolve(first.session.id, grant.access, resource=resource)
    assert (first.outcome, again.outcome) == (Outcome.CREATED, Outcome.REUSED)
    for principal in (first.principal, again.principal):
        assert principal is not None
        assert (principal.issuer, principal.subject) == (provider.issuer, DAEMON)
        assert (principal.client_id, principal.scopes) == (DAEMON, ("buckets.read",))
        assert principal.roles == ()


@pytest.mark.parametrize("client", [APP, DEVICE])
@FORMATS
async def test_grants_of_a_user_and_their_refresh(
    tmp_path: Path, provider: OidcProvider, clock: Clock, client: str, resource: str
) -> None:
    """Each is the user, and a refresh keeps the session."""
    first = await granted(provider, client, resource)
    second = await provider.refresh(first, resource=resource)
    third = await provider.refresh(second, resource=resource)
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    async with serving(configured(tmp_path, provider), clock) as service:
        created = await service.client.create(first.access, resource=resource)
        assert created.session is not None
        session = created.session.id
        seen = [created]
        for grant in (second, third):
            found = await service.client.resolve(session, grant.access, resource=resource)
            seen.append(found)
    for found in seen:
        assert found.session is not None
        assert found.session.id == session
        assert found.principal is not None
        assert (found.principal.issuer, found.principal.subject) == (provider.issuer, "ada")
        assert (found.principal.client_id, found.principal.roles) == (client, ("reader",))
        assert found.principal.scopes == ("buckets.read",)
    # Each token is answered with its own claims.
    if resource == RESOURCE:
        for grant, found in zip((first, second, third), seen, strict=True):
            assert found.principal is not None
            header, payload = jwt.get_unverified_header(grant.access), claims(found.principal)
            assert (header["typ"], payload["aud"]) == ("at+jwt", RESOURCE)
            assert payload == claims_of(grant.access)


@pytest.mark.parametrize("client", [APP, DEVICE, DAEMON])
@FORMATS
async def test_a_token_for_another_resource_is_rejected(
    tmp_path: Path, provider: OidcProvider, clock: Clock, client: str, resource: str
) -> None:
    (other,) = {RESOURCE, OTHER_RESOURCE} - {resource}
    grant = await granted(provider, client, resource)
    settings = configured(tmp_path, provider, introspection=CLIENT_AS_SUBJECT)
    async with serving(settings, clock) as service:
        assert await refusal(service, grant.access, other) is Reason.TOKEN_AUDIENCE_MISMATCH
        assert (await accepted(service, grant.access, resource)).client_id == client


@FORMATS
async def test_a_token_for_no_resource_is_rejected(
    tmp_path: Path, provider: OidcProvider, clock: Clock, resource: str
) -> None:
    """It is for the provider's own userinfo endpoint, and has no ``aud``."""
    grant = await provider.log_in(resource="")
    async with serving(configured(tmp_path, provider), clock) as service:
        assert await refusal(service, grant.access, resource) is Reason.TOKEN_AUDIENCE_MISMATCH


@pytest.mark.parametrize("method", AUTHSVC_METHODS)
async def test_each_client_authentication_method_introspects(
    tmp_path: Path, provider: OidcProvider, clock: Clock, method: str
) -> None:
    grant = await provider.log_in(resource=OTHER_RESOURCE)
    assert "." not in grant.access
    async with serving(configured(tmp_path, provider, method), clock) as service:
        assert (await accepted(service, grant.access, OTHER_RESOURCE)).subject == "ada"
        assert await refusal(service, "made-up", OTHER_RESOURCE) is Reason.TOKEN_INACTIVE


async def test_a_revoked_opaque_token_is_rejected_once_its_response_is_not_cached(
    tmp_path: Path, provider: OidcProvider, clock: Clock
) -> None:
    grant = await provider.log_in(resource=OTHER_RESOURCE)
    daemon = await provider.client_credentials(resource=OTHER_RESOURCE)
    tokens = (grant.access, daemon.access)
    settings = configured(tmp_path, provider, introspection=CLIENT_AS_SUBJECT)
    async with serving(settings, clock) as service:
        sessions = []
        for token in tokens:
            created = await service.client.create(token, resource=OTHER_RESOURCE)
            assert created.session is not None
            sessions.append(created.session.id)
        await provider.revoke(grant.access, APP)
        await provider.revoke(daemon.access, DAEMON)
        clock.advance(CACHE_SECONDS)
        for token, session in zip(tokens, sessions, strict=True):
            for presented in (session, ""):
                found_reason = await refusal(service, token, OTHER_RESOURCE, presented)
                assert found_reason is Reason.TOKEN_INACTIVE
        # The session goes on with its user's next token.
        fresh = await provider.log_in(resource=OTHER_RESOURCE)
        found = await service.client.resolve(sessions[0], fresh.access, resource=OTHER_RESOURCE)
        assert found.session is not None
        assert found.session.id == sessions[0]


async def test_a_revoked_refresh_token_ends_the_access_token_of_its_grant(
    tmp_path: Path, provider: OidcProvider, clock: Clock
) -> None:
    grant = await provider.device(resource=OTHER_RESOURCE)
    async with serving(configured(tmp_path, provider), clock) as service:
        assert (await accepted(service, grant.access, OTHER_RESOURCE)).subject == "ada"
        await provider.revoke(grant.refresh, DEVICE)
        clock.advance(CACHE_SECONDS)
        assert await refusal(service, grant.access, OTHER_RESOURCE) is Reason.TOKEN_INACTIVE


async def test_client_credentials_without_sub_need_a_setting(
    tmp_path: Path, provider: OidcProvider, clock: Clock
) -> None:
    grant = await provider.client_credentials(resource=OTHER_RESOURCE)
    async with serving(configured(tmp_path, provider), clock) as service:
        assert await refusal(service, grant.access, OTHER_RESOURCE) is Reason.TOKEN_CLAIM_MISSING


# Keys


async def test_keys_are_rotated_and_withdrawn(
    tmp_path: Path, provider: OidcProvider, clock: Clock
) -> None:
    """A token by a new key works without a restart. Once a set without it is fetched, no token by
    a withdrawn key works, whatever grant issued it, and whether or not it was cached."""
    old = [await granted(provider, client, RESOURCE) for client in (APP, DEVICE, DAEMON)]
    unseen = await provider.log_in("bob")
    async with serving(configured(tmp_path, provider), clock) as service:
        sessions = []
        for grant in old:
            created = await service.client.create(grant.access, resource=RESOURCE)
            assert created.session is not None
            sessions.append(created.session.id)

        await provider.publish(SECOND, FIRST)
        refreshed = await provider.refresh(old[0])
        assert jwt.get_unverified_header(refreshed.access)["kid"] == "second"
        clock.advance(COOL_DOWN_SECONDS)
        found = await service.client.resolve(sessions[0], refreshed.access, resource=RESOURCE)
        assert found.principal is not None
        assert found.principal.subject == "ada"
        for grant, session in zip(old, sessions, strict=True):
            for presented in (session, ""):
                await service.client.resolve(presented, grant.access, resource=RESOURCE)

        await provider.publish(THIRD, SECOND)
        third = await provider.client_credentials()
        clock.advance(COOL_DOWN_SECONDS)
        assert (await accepted(service, third.access)).subject == DAEMON
        assert await refusal(service, unseen.access) is Reason.TOKEN_KEY_UNKNOWN
        for grant, session in zip(old, sessions, strict=True):
            for presented in (session, ""):
                found_reason = await refusal(service, grant.access, session=presented)
                assert found_reason is Reason.TOKEN_KEY_UNKNOWN
        # The session goes on with its user's next token.
        again = await provider.refresh(refreshed)
        found = await service.client.resolve(sessions[0], again.access, resource=RESOURCE)
        assert found.principal is not None
        assert claims(found.principal)["jti"] == claims_of(again.access)["jti"]


async def test_a_withdrawn_key_ends_when_the_keys_are_fetched_ahead_of_need(
    tmp_path: Path, provider: OidcProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token has to name the new key for that."""
    monkeypatch.setattr("authsvc.server.housekeeping.REFRESH_INTERVAL_SECONDS", 0.01)
    due_time = clock.now + DEFAULT_MAX_AGE_SECONDS
    refreshed = asyncio.Event()
    refresh = JwtVerifier.refresh

    async def noted(verifier: JwtVerifier, now: float) -> bool:
        """The verifier's own refresh; the event is set once one was due."""
        answer = await refresh(verifier, now)
        if now >= due_time:
            refreshed.set()
        return answer

    monkeypatch.setattr(JwtVerifier, "refresh", noted)
    grant = await provider.log_in()
    async with serving(configured(tmp_path, provider), clock) as service:
        await accepted(service, grant.access)
        await provider.publish(SECOND)
        await accepted(service, grant.access)
        clock.advance(DEFAULT_MAX_AGE_SECONDS)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await refreshed.wait()
        assert await refusal(service, grant.access) is Reason.TOKEN_KEY_UNKNOWN


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_where_it_is_allowed(
    tmp_path: Path, provider: OidcProvider, clock: Clock, algorithm: str
) -> None:
    """The provider has a key for each of them, and signs with one."""
    ranked = sorted(ALGORITHMS, key=lambda name: name != algorithm)
    await provider.publish(*((f"key for {name}", name) for name in ranked))
    grant = await provider.log_in()
    assert jwt.get_unverified_header(grant.access)["alg"] == algorithm
    settings = configured(tmp_path, provider, issuer={"algorithms": ALGORITHMS})
    async with serving(settings, clock) as service:
        assert (await accepted(service, grant.access)).subject == "ada"
    settings = configured(tmp_path, provider, issuer={"algorithms": ranked[1:]})
    async with serving(settings, clock) as service:
        assert await refusal(service, grant.access) is Reason.TOKEN_ALGORITHM_REFUSED


@pytest.mark.parametrize("signed", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("allowed", ["EdDSA", "Ed25519"])
async def test_both_names_of_ed25519(
    tmp_path: Path, provider: OidcProvider, clock: Clock, signed: str, allowed: str
) -> None:
    await provider.publish((f"ed25519 as {signed}", signed))
    grant = await provider.client_credentials()
    assert jwt.get_unverified_header(grant.access)["alg"] == signed
    settings = configured(tmp_path, provider, issuer={"algorithms": [allowed]})
    async with serving(settings, clock) as service:
        assert (await accepted(service, grant.access)).subject == DAEMON


# Other tokens of the provider


@pytest.mark.parametrize("client", [APP, DEVICE])
@FORMATS
async def test_id_tokens_are_rejected(
    tmp_path: Path, provider: OidcProvider, clock: Clock, client: str, resource: str
) -> None:
    """Where their audience, which is the client, is accepted: by their header. They have no other
    mark: the provider leaves out ``at_hash`` and ``nonce``."""
    first = await granted(provider, client, resource)
    second = await provider.refresh(first, resource=resource)
    identities = (first.identity, second.identity)
    assert all(claims_of(token)["aud"] == client for token in identities)
    async with serving(configured(tmp_path, provider), clock) as service:
        for token in identities:
            found = await refusal(service, token, resource)
            assert found is Reason.TOKEN_AUDIENCE_MISMATCH
    audiences = {it: [it, client] for it in (RESOURCE, OTHER_RESOURCE)}
    issuer = {"audiences": audiences, "accepted_types": ["at+jwt"]}
    async with serving(configured(tmp_path, provider, issuer=issuer), clock) as service:
        for token in identities:
            assert await refusal(service, token, resource) is Reason.TOKEN_MALFORMED
        for grant in (first, second):
            assert (await accepted(service, grant.access, resource)).client_id == client


async def test_other_jwts_by_the_same_keys_are_rejected(
    tmp_path: Path, provider: OidcProvider, clock: Clock
) -> None:
    """As ID tokens are. An authorization response has no ``iat`` either, nor a subject."""
    others = [await provider.signed_authorization(), await provider.signed_userinfo()]
    assert all(claims_of(token)["aud"] == APP for token in others)
    reasons = [Reason.TOKEN_CLAIM_MISSING, Reason.TOKEN_AUDIENCE_MISMATCH]
    async with serving(configured(tmp_path, provider), clock) as service:
        assert [await refusal(service, token) for token in others] == reasons
    issuer = {"audiences": {RESOURCE: [RESOURCE, APP]}, "accepted_types": ["at+jwt"]}
    async with serving(configured(tmp_path, provider, issuer=issuer), clock) as service:
        for token in others:
            assert await refusal(service, token) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "introspection",
    [{}, {"audience_optional": True}, {"client_ids": [APP, DEVICE]}],
    ids=["aud is needed", "aud is optional", "aud is not needed of these clients"],
)
@pytest.mark.parametrize("client", [APP, DEVICE])
@FORMATS
async def test_refresh_tokens_are_rejected(
    tmp_path: Path,
    provider: OidcProvider,
    clock: Clock,
    client: str,
    resource: str,
    introspection: dict[str, object],
) -> None:
    """The provider introspects them as active, and names neither an ``aud`` nor a type."""
    grant = await granted(provider, client, resource)
    settings = configured(tmp_path, provider, introspection=introspection)
    async with serving(settings, clock) as service:
        found = await refusal(service, grant.refresh, resource)
        assert found is (
            Reason.TOKEN_MALFORMED if introspection else Reason.TOKEN_AUDIENCE_MISMATCH
        )
        assert (await accepted(service, grant.access, resource)).client_id == client


async def test_jwts_that_the_provider_does_not_introspect(
    tmp_path: Path, provider: OidcProvider, clock: Clock
) -> None:
    """It answers ``unsupported_token_type``: that is said of the token. The endpoint works."""
    signed, opaque = [await provider.log_in(resource=it) for it in (RESOURCE, OTHER_RESOURCE)]
    settings = configured(tmp_path, provider, introspection={"tokens": "all"})
    encrypted = f"{signed.access}.made.up"
    async with serving(settings, clock) as service:
        for token in (signed.access, signed.identity, encrypted):
            assert await refusal(service, token) is Reason.TOKEN_INACTIVE
        assert (await accepted(service, opaque.access, OTHER_RESOURCE)).subject == "ada"


@FORMATS
async def test_tokens_that_are_bound_to_a_key_are_rejected(
    tmp_path: Path, provider: OidcProvider, clock: Clock, resource: str
) -> None:
    """authsvc sees no proof of possession (DPoP, RFC 9449), so that a thief could use them."""
    grant = await provider.client_credentials(resource=resource, bound=True)
    settings = configured(tmp_path, provider, introspection=CLIENT_AS_SUBJECT)
    async with serving(settings, clock) as service:
        assert await refusal(service, grant.access, resource) is Reason.TOKEN_MALFORMED


# Sessions


@FORMATS
async def test_another_user_does_not_get_into_a_session(
    tmp_path: Path, provider: OidcProvider, clock: Clock, resource: str
) -> None:
    ada = await provider.log_in("ada", resource=resource)
    others = [
        await provider.log_in("bob", resource=resource),
        await provider.device("bob", role="analyst", resource=resource),
        await provider.client_credentials(resource=resource),
    ]
    settings = configured(tmp_path, provider, introspection=CLIENT_AS_SUBJECT)
    async with serving(settings, clock) as service:
        created = await service.client.create(ada.access, resource=resource)
        assert created.session is not None
        session = created.session.id
        for grant in others:
            found_reason = await refusal(service, grant.access, resource, session)
            assert found_reason is Reason.SESSION_SUBJECT_MISMATCH
        found = await service.client.resolve(session, ada.access, resource=resource)
        assert found.session is not None
        assert (found.outcome, found.session.revision) == (Outcome.REUSED, 1)


# Over HTTP


SCOPE_OF_TOOLS = {"whoami": ("buckets.read",), "write": ("buckets.read", "objects.read")}


def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """By tool; what is no tool call, as by default."""
    if method == "tools/call":
        return Requirement(SCOPE_OF_TOOLS[params["name"]])
    return default_requirement(method, params)


@dataclass(frozen=True)
class McpClient:
    """An MCP client that knows nothing but the endpoint's path."""

    http: httpx2.AsyncClient
    session: str = ""

    async def post(self, message: object, token: str = "") -> httpx2.Response:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Mcp-Session-Id": self.session,
            "Authorization": f"Bearer {token}" if token else "",
        }
        sent = {name: value for name, value in headers.items() if value}
        return await self.http.post(urlsplit(RESOURCE).path, json=message, headers=sent)

    async def call(self, tool: str, token: str = "") -> httpx2.Response:
        return await self.post(call(tool), token)


@asynccontextmanager
async def gated(
    service: Service, provider: OidcProvider, resource: str
) -> AsyncIterator[McpClient]:
    """A client with a session at an MCP server for ``resource`` behind the gate."""

    async def ready() -> None:
        """It always is."""

    app = build_app(
        AdapterSettings(resource=resource, authorization_servers=(provider.issuer,)),
        demo_server(Meeting()),
        resolver=service.client,
        ready=ready,
        requirement=requirement,
        scopes=SCOPE_OF_TOOLS["write"],
    )
    host = {"Host": urlsplit(resource).netloc}
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, headers=host) as http,
    ):
        begun = await McpClient(http).post(initialize())
        yield McpClient(http, begun.headers["mcp-session-id"])


def challenge(response: httpx2.Response, status: int) -> dict[str, str]:
    """The parameters of a challenge (RFC 9110 section 11.6.1)."""
    assert response.status_code == status, response.text
    return dict(re.findall(r'(\w+)="([^"]*)"', response.headers["www-authenticate"]))


@FORMATS
async def test_from_401_to_an_answer_and_to_the_end_of_the_token(
    tmp_path: Path, provider: OidcProvider, clock: Clock, resource: str
) -> None:
    """The client finds the provider by the challenge, and gets in for as long as its token is
    valid: a revoked opaque one, or a JWT by a withdrawn key, is challenged again."""
    async with (
        serving(configured(tmp_path, provider), clock) as service,
        gated(service, provider, resource) as client,
    ):
        asked = challenge(await client.call("whoami"), 401)
        found = (await client.http.get(urlsplit(asked["resource_metadata"]).path)).json()
        assert found["authorization_servers"] == [provider.issuer]
        assert set(found["scopes_supported"]) == {"buckets.read", "objects.read"}
        grant = await provider.log_in(resource=found["resource"])
        assert said(await client.call("whoami", grant.access)) == "ada"
        scopes = challenge(await client.call("write", grant.access), 403)
        assert scopes["error"] == "insufficient_scope"

        (other,) = {RESOURCE, OTHER_RESOURCE} - {resource}
        for token in ((await provider.log_in(resource=other)).access, grant.refresh):
            assert challenge(await client.call("whoami", token), 401)["error"] == "invalid_token"
        bob = await provider.log_in("bob", resource=resource)
        assert (await client.call("whoami", bob.access)).status_code == 404
        assert said(await client.call("whoami", grant.access)) == "ada"

        if resource == RESOURCE:
            await provider.publish(SECOND)
            clock.advance(COOL_DOWN_SECONDS)
            fresh = await provider.refresh(grant, resource=resource)
            assert said(await client.call("whoami", fresh.access)) == "ada"
        else:
            await provider.revoke(grant.access, APP)
            clock.advance(CACHE_SECONDS)
            fresh = await provider.log_in(resource=resource)
        assert challenge(await client.call("whoami", grant.access), 401)["error"] == "invalid_token"
        assert said(await client.call("whoami", fresh.access)) == "ada"
