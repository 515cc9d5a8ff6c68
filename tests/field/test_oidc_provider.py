"""A certified identity provider (npm ``oidc-provider``) as the issuer of a running authsvc.

No valid token is rejected, whatever grant issued it; no other token is accepted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Outcome, Principal
from authsvc.server.config import Settings
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

CLIENT_AS_SUBJECT = {"claims": {"subject": ["sub", "client_id"]}}
"""No user is behind client credentials: an introspection response then has no ``sub``."""


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with serving_oidc_provider() as running:
        yield running


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
    return settings_for(
        folder,
        IdentityProvider(),
        issuers=[
            {
                "issuer": provider.issuer,
                "algorithms": ["ES256"],
                "discover": True,
                **issuer,
            }
        ],
        introspection={
            "issuer": provider.issuer,
            "tokens": "opaque",
            "endpoint": f"{provider.issuer}/token/introspection",
            "client_id": method,
            "auth_method": method,
            **{name: folder / name for name in files},
            **introspection,
        },
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
            unverified = jwt.decode(grant.access, options={"verify_signature": False})
            assert payload == unverified


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


@pytest.mark.parametrize("method", AUTHSVC_METHODS)
async def test_each_client_authentication_method_introspects(
    tmp_path: Path, provider: OidcProvider, clock: Clock, method: str
) -> None:
    grant = await provider.log_in(resource=OTHER_RESOURCE)
    assert "." not in grant.access
    async with serving(configured(tmp_path, provider, method), clock) as service:
        assert (await accepted(service, grant.access, OTHER_RESOURCE)).subject == "ada"
        assert await refusal(service, "made-up", OTHER_RESOURCE) is Reason.TOKEN_INACTIVE
