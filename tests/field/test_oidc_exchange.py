"""Token exchange, JWT bearer grants and identity assertions at certified identity providers (npm
``oidc-provider``), which verify each token that they get.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from authsvc.credentials import CredentialBroker
from authsvc.diagnosis import Level, Report
from authsvc.diagnosis.endpoint_remedies import Place
from authsvc.diagnosis.token_endpoints import ask_as_client, form_of
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import BearerCredentials, Principal, Secret
from authsvc.server.brokers import open_broker
from authsvc.server.config import ExchangeSettings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.oidc_provider import (
    AUTHSVC_KEY_PEM,
    OidcProvider,
    serving_oidc_provider,
)
from tests.support.service import settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

API, OPAQUE_API = "https://api.example/v1", "https://opaque.example/v1"


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    resources = {RESOURCE: "jwt", OTHER_RESOURCE: "opaque", API: "jwt", OPAQUE_API: "opaque"}
    with serving_oidc_provider(resources) as running:
        yield running


@pytest.fixture(scope="module")
def api_server(provider: OidcProvider) -> Iterator[OidcProvider]:
    """The authorization server of an API, which trusts the provider's assertions."""
    with serving_oidc_provider({API: "jwt"}, trusted=[provider.issuer]) as running:
        yield running


def client_of(server: OidcProvider, folder: Path, method: str) -> dict[str, Any]:
    """authsvc as a client of a server."""
    folder.mkdir(exist_ok=True)
    table: dict[str, Any] = {
        "endpoint": f"{server.issuer}/token",
        "client_id": method,
        "auth_method": method,
    }
    name = "private_key_file" if method == "private_key_jwt" else "client_secret_file"
    (folder / name).write_text(AUTHSVC_KEY_PEM if "key" in name else server.secret)
    return {**table, name: folder / name}


@asynccontextmanager
async def broker_of(
    provider: OidcProvider,
    folder: Path,
    table: Mapping[str, object],
    method: str = "client_secret_basic",
) -> AsyncIterator[CredentialBroker]:
    exchange = {
        "issuers": (provider.issuer,),
        **client_of(provider, folder / "idp", method),
        **table,
    }
    issuer = {"issuer": provider.issuer, "algorithms": ["ES256"], "discover": True}
    settings = settings_for(
        folder, IdentityProvider(), issuers=[issuer], credentials={"exchange": [exchange]}
    )
    async with open_broker(settings) as broker:
        assert broker is not None
        yield broker


async def issued(broker: CredentialBroker, provider: OidcProvider, token: str) -> str:
    who = Principal(provider.issuer, "ada", time.time() + 600)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        got = await broker.issue(who, token=Secret(token), resource=RESOURCE, now=time.time())
    assert isinstance(got, BearerCredentials)
    return got.access_token.reveal()


async def refused(broker: CredentialBroker, provider: OidcProvider, token: str) -> AuthError:
    with pytest.raises(AuthError) as caught:
        await issued(broker, provider, token)
    assert caught.value.reason is Reason.CREDENTIALS_REFUSED
    return caught.value


async def verified(server: OidcProvider, token: str, audience: str = API) -> dict[str, Any]:
    """The claims of an API's token, by the server's own keys."""
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        keys = jwt.PyJWKSet.from_dict((await http.get(f"{server.issuer}/jwks")).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=["ES256"], audience=audience, issuer=server.issuer
    )
    return claims


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
@pytest.mark.parametrize("resource", [RESOURCE, OTHER_RESOURCE], ids=["jwt", "opaque"])
async def test_token_exchange(
    provider: OidcProvider, tmp_path: Path, method: str, resource: str
) -> None:
    token = (await provider.log_in(resource=resource)).access
    table = {"api": API, "scopes": ["buckets.read"]}
    async with broker_of(provider, tmp_path, table, method) as broker:
        claims = await verified(provider, await issued(broker, provider, token))
        assert (claims["sub"], claims["client_id"]) == ("ada", method)
        assert (claims["scope"], claims["act"]) == ("buckets.read", {"sub": method})
        header, payload, signature = (token + "..").split(".")[:3]
        forged = f"{header}.{payload}.{signature[::-1]}" if signature else "x" + token
        error = await refused(broker, provider, forged)
        assert "invalid_grant" in error.detail


async def test_token_exchange_for_an_opaque_token(provider: OidcProvider, tmp_path: Path) -> None:
    token = (await provider.log_in()).access
    async with broker_of(provider, tmp_path, {"api": OPAQUE_API}) as broker:
        got = await issued(broker, provider, token)
    auth = ("client_secret_basic", provider.secret)
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        answer = await http.post(
            f"{provider.issuer}/token/introspection", data={"token": got}, auth=auth
        )
    said = answer.json()
    assert (said["active"], said["sub"], said["aud"]) == (True, "ada", OPAQUE_API)


async def test_token_exchange_with_an_actor(provider: OidcProvider, tmp_path: Path) -> None:
    token = (await provider.log_in()).access
    (tmp_path / "actor").write_text((await provider.log_in("agent")).access)
    table = {"api": API, "actor_token_file": tmp_path / "actor"}
    async with broker_of(provider, tmp_path, table) as broker:
        claims = await verified(provider, await issued(broker, provider, token))
    assert (claims["sub"], claims["act"]) == ("ada", {"sub": "agent"})


async def test_an_api_that_the_provider_does_not_know(
    provider: OidcProvider, tmp_path: Path
) -> None:
    token = (await provider.log_in()).access
    async with broker_of(provider, tmp_path, {"api": "https://nowhere.example"}) as broker:
        assert "invalid_target" in (await refused(broker, provider, token)).detail


async def test_a_jwt_bearer_grant(provider: OidcProvider, tmp_path: Path) -> None:
    token = (await provider.log_in()).access
    table = {"profile": "jwt-bearer", "api": API, "scopes": ["buckets.read"]}
    async with broker_of(provider, tmp_path, table) as broker:
        claims = await verified(provider, await issued(broker, provider, token))
        assert (claims["sub"], claims["scope"]) == ("ada", "buckets.read")
        other = IdentityProvider().token(iss=provider.issuer)
        assert "invalid_grant" in (await refused(broker, provider, other)).detail
        assert "invalid_grant" in (await refused(broker, provider, "opaque")).detail


def across(server: OidcProvider, folder: Path, **changes: object) -> dict[str, object]:
    return {
        "profile": "id-jag",
        "audience": server.issuer,
        "api": API,
        "scopes": ["buckets.read"],
        "api_server": client_of(server, folder / "api", "client_secret_basic"),
        **changes,
    }


async def test_an_identity_assertion_for_another_server(
    provider: OidcProvider, api_server: OidcProvider, tmp_path: Path
) -> None:
    token = (await provider.log_in()).access
    async with broker_of(provider, tmp_path, across(api_server, tmp_path)) as broker:
        claims = await verified(api_server, await issued(broker, provider, token))
    assert (claims["sub"], claims["scope"]) == ("ada", "buckets.read")
    assert claims["client_id"] == "client_secret_basic"


async def test_an_assertion_for_a_third_server_or_client_is_rejected(
    provider: OidcProvider, api_server: OidcProvider, tmp_path: Path
) -> None:
    token = (await provider.log_in()).access
    third = {"audience": "https://third.example"}
    other = {"api_server": client_of(api_server, tmp_path / "post", "client_secret_post")}
    for changes in (third, other):
        async with broker_of(provider, tmp_path, across(api_server, tmp_path, **changes)) as it:
            error = await refused(it, provider, token)
            assert f"{api_server.issuer}/token: answered 400 (invalid_grant)" in error.detail


async def test_a_server_that_does_not_trust_the_provider(
    provider: OidcProvider, api_server: OidcProvider, tmp_path: Path
) -> None:
    """The two change their places: what one issues, the other does not accept."""
    token = (await api_server.log_in(resource=API)).access
    async with broker_of(api_server, tmp_path, across(provider, tmp_path)) as broker:
        error = await refused(broker, api_server, token)
    assert f"{provider.issuer}/token: answered 400 (invalid_grant)" in error.detail


@pytest.mark.parametrize("profile", ["rfc8693", "jwt-bearer"])
@pytest.mark.parametrize("is_right", [True, False])
async def test_the_doctor_tells_whether_the_provider_takes_the_client(
    provider: OidcProvider, tmp_path: Path, profile: str, is_right: bool
) -> None:
    values = {"issuers": (provider.issuer,), "profile": profile}
    client = client_of(provider, tmp_path / "idp", "client_secret_basic")
    if not is_right:
        client["client_secret_file"].write_text("another secret")
    table = ExchangeSettings.model_validate({**values, **client})
    report = Report("credentials")
    place = Place("credentials.exchange", is_of_client=True)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await ask_as_client(report, table, place, form_of(table))
    (finding,) = report.findings
    assert finding.level is (Level.OK if is_right else Level.FAIL), finding.text
