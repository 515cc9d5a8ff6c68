"""docs/providers.md, run: each configuration, token and refusal that it shows.

No real provider is reached: ``tests.support.providers`` stands for them.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import botocore.session
import httpx2
import jwt
import pytest
from botocore.config import Config
from click.testing import CliRunner
from starlette.applications import Starlette

from authsvc.cli import main
from authsvc.diagnosis import Finding, Level, diagnose, introspection, issuers
from authsvc.domain.resolution import Principal
from authsvc.http_auth.requirements import required
from demo.s3 import serving_s3
from mcp_adapter import Requirement, SessionGate, with_broader_scopes
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.providers import (
    ENTRA,
    LIGHTWEIGHT,
    RESOURCE,
    Local,
    Sent,
    described,
    resolved,
    serving_provider,
    token_of,
)
from tests.support.providers_page import ALL, PAGE, Section
from tests.support.service import serving

pytestmark = pytest.mark.anyio

PROVIDERS = [it for it in ALL.values() if it.documents and it.toml]
REFUSALS = [(it.title, what) for it in ALL.values() for what in it.refused]


# Refusals: by what the page calls it, how it differs from the token that the page shows

ID_CLIENT = "claude"
OTHER_API = "https://wiki.example.com/mcp"
Change = Callable[[Sent], Sent]


def id_token(*dropped: str, **claims: object) -> Change:
    """For the client, with what OpenID Connect adds."""
    added = {"aud": ID_CLIENT, "nonce": "n-0S6", **claims}
    return lambda it: it.headed(typ="JWT").without("scope", "scp", *dropped).having(**added)


def of_issuer(issuer: str, **claims: object) -> Change:
    return lambda it: replace(it.having(iss=issuer, **claims), key="another")


def shared_keys(issuer: str, tenant: str) -> Change:
    return lambda it: it.having(iss=issuer, tid=tenant)


def opaque(text: str) -> Change:
    return lambda it: replace(it, opaque=text)


def audience(value: object) -> Change:
    return lambda it: it.having(aud=value)


ANOTHER_API = audience(OTHER_API)
ENDED: Change = lambda it: replace(it, claims={"active": False})  # noqa: E731

KEYCLOAK_ID = id_token("realm_access", "resource_access", typ="ID", at_hash="b2Vh")
OTHER_TENANT = "0ddba110-0000-4000-8000-999999999999"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
API = "7e57ab1e-0000-4000-8000-bbbbbbbbbbbb"
ENTRA_ID = id_token("azp", "azpacr", "appid", "appidacr", "roles")
ENTRA_ID_OF_API = id_token("azp", "azpacr", "appid", "appidacr", "roles", aud=API)
ANOTHER_TENANT = shared_keys(ENTRA.format(OTHER_TENANT), OTHER_TENANT)
A_PERSON = shared_keys(ENTRA.format(PERSONAL), PERSONAL)
# Five segments, the second of them empty: encrypted directly (RFC 7516).
ENCRYPTED = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"

CHANGES: dict[str, dict[str, Change]] = {
    "Keycloak": {
        "its ID token": KEYCLOAK_ID,
        "its ID token, with the mapper's *Add to ID token* on": lambda it: KEYCLOAK_ID(it).having(
            aud=[RESOURCE, ID_CLIENT]
        ),
        "its refresh token": lambda it: replace(
            it,
            opaque=jwt.encode(
                {"iss": it.claims["iss"], "typ": "Refresh", "aud": it.claims["iss"]},
                "a secret of the realm" * 4,
                "HS512",
                {"kid": "kc-hs"},
            ),
        ),
        "a token without the mapper": audience("account"),
        "a token for another API": audience([OTHER_API, "account"]),
        "a token of another realm": of_issuer("https://sso.example.com/realms/other"),
        "a lightweight access token": lambda it: it.without(*LIGHTWEIGHT),
    },
    "Lightweight access tokens": {
        "a token that has ended": ENDED,
        "a token for another API": audience([OTHER_API, "authsvc"]),
        "its refresh token": lambda it: it.having(typ="Refresh"),
        "a token of another realm": lambda it: replace(
            it,
            opaque=token_of(ALL["Keycloak"]).having(iss="https://sso.example.com/realms/b").text,
        ),
    },
    "Microsoft Entra ID: one tenant": {
        "its ID token": ENTRA_ID,
        "its ID token, from the API's own registration": ENTRA_ID_OF_API,
        "a token for another API": audience("0ddba110-1111-4000-8000-999999999999"),
        "a token of another tenant": ANOTHER_TENANT,
        "a token of a personal account": A_PERSON,
        "a token of version 1": lambda it: token_of(ALL["Tokens of version 1"]).at(START),
    },
    "Tokens of version 1": {
        "its ID token": ENTRA_ID,
        "its ID token, from the API's own registration": ENTRA_ID_OF_API,
        # What is signed is the header with a digest of the nonce in its place.
        "a token for Microsoft Graph": lambda it: replace(
            it, opaque=with_header(it.headed(nonce="digest").text, {**it.header, "nonce": "n"})
        ),
        "a token of another tenant": shared_keys(
            f"https://sts.windows.net/{OTHER_TENANT}/", OTHER_TENANT
        ),
        "a token of version 2": lambda it: token_of(ALL["Microsoft Entra ID: one tenant"]).at(
            START
        ),
    },
    "Microsoft Entra ID: several tenants": {
        "its ID token, from the API's own registration": ENTRA_ID_OF_API,
        "a token of another tenant": ANOTHER_TENANT,
        "a token of a personal account": A_PERSON,
    },
    "Okta": {
        "its ID token": id_token("cid", "uid", aud="0oa4client5", at_hash="b2Vh", amr=["pwd"]),
        "a token of the org's own server": lambda it: it.headed(
            typ="application/okta-internal-at+jwt"
        ).having(iss="https://acme.okta.com", aud="https://acme.okta.com"),
        "a token of another authorization server": of_issuer(
            "https://acme.okta.com/oauth2/default", aud="api://default"
        ),
        "a token from before the Audience was set": audience("api://default"),
    },
    "Auth0": {
        "its ID token": id_token("azp", "permissions", aud="CLIENTclaude", sid="s1"),
        "a token without an API (opaque)": opaque("uJ2mQ8xTz0aYpR5e_k7Vw1NcB4dHfGs9"),
        "a token without an API (encrypted)": opaque(ENCRYPTED),
        "a token for another API": audience([OTHER_API, "https://acme.eu.auth0.com/userinfo"]),
        "a token of another tenant": of_issuer("https://other.eu.auth0.com/"),
    },
    "Amazon Cognito": {
        "its ID token": id_token(
            *("client_id", "username", "version"),
            **{"aud": "4client5of6this7pool", "token_use": "id", "cognito:username": "ada"},
            at_hash="b2Vh",
        ),
        "a token of another client": lambda it: it.having(client_id="7another8client9"),
        "a token of another pool": of_issuer(
            "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Other0000"
        ),
    },
    "Tokens bound to a resource": {
        "its ID token": id_token("client_id", "username", aud="4client5of6", token_use="id"),
        "a token without `resource`": lambda it: it.without("aud"),
        "a token for another API": ANOTHER_API,
    },
    "Google": {
        "Google's access token": opaque("ya29.a0AfB_byDf3Zx1Qm7Tn0"),
        "Google's ID token": lambda it: token_of(ALL["Google"]).at(START),
    },
    "Duende IdentityServer": {
        "its ID token": id_token("client_id", "role", at_hash="b2Vh"),
        "a token with the static audience": audience("https://identity.example.com/resources"),
        "a token for another API": ANOTHER_API,
        "a token of another server": of_issuer("https://other.example.com"),
        "a reference token": opaque(
            "7C1F0E9D8B7A6F5E4D3C2B1A09F8E7D6C5B4A392817060F5E4D3C2B1A0998877-1"
        ),
    },
    "Reference tokens": {
        "a token that has ended": ENDED,
        "a token for another API": ANOTHER_API,
        "its ID token": lambda it: replace(
            it,
            opaque=id_token("client_id")(token_of(ALL["Duende IdentityServer"]).at(START)).text,
        ),
    },
    "PingOne": {
        "its ID token": id_token("client_id", aud="c0de0000-0000-4000-8000-222222222222"),
        "a token for PingOne's own API": audience(["https://api.pingone.eu"]),
        "a token of another environment": of_issuer(
            "https://auth.pingone.eu/07e50000-0000-4000-8000-999999999999/as"
        ),
    },
    "Any other provider": {
        "its ID token": id_token("client_id", "roles"),
        "a token for another API": ANOTHER_API,
        "a token of another issuer": of_issuer("https://other.example.com"),
        "an opaque token": opaque("mF_9.B5f-4.1JqM-x"),
        "a token that is bound to a key": lambda it: it.having(cnf={"jkt": "0ZcOCORZNYy"}),
    },
    "Opaque tokens": {
        "a token that has ended": ENDED,
        "a token for another API": ANOTHER_API,
        "its refresh token": lambda it: it.having(token_type="refresh_token"),
    },
}


def with_header(token: str, header: Mapping[str, Any]) -> str:
    """The token with another header than the one that was signed."""
    encoded = jwt.utils.base64url_encode(json.dumps(header).encode()).decode()
    return ".".join([encoded, *token.split(".")[1:]])


def configuration_of(it: Section) -> Section:
    """The section whose configuration its refusals are tried with."""
    return it if it.toml else ALL["Keycloak"]


def titled(it: Section) -> str:
    return it.title


# What the page says is so


def test_the_page_has_every_provider_and_every_row_has_its_token() -> None:
    assert len(PROVIDERS) == 14
    assert {it.title for it in ALL.values() if it.documents} == {*CHANGES}
    assert {title: {*it.refused} for title, it in ALL.items() if it.refused} == {
        title: {*changes} for title, changes in CHANGES.items()
    }
    blocks = re.findall(r"^```(toml|json|text)$", PAGE, re.MULTILINE)
    assert blocks.count("toml") == len(PROVIDERS) + 1
    assert blocks.count("json") == len(PROVIDERS) + 1  # Google's, which is refused
    assert blocks.count("text") == len(PROVIDERS)


@pytest.mark.parametrize("it", PROVIDERS, ids=titled)
async def test_the_token_shown_gives_the_principal_shown(
    it: Section, tmp_path: Path, clock: Clock
) -> None:
    async with serving_provider(tmp_path, it.toml, kid=it.kid) as local:
        sent = token_of(it).at(START)
        local.answers(sent)
        async with serving(local.settings, clock) as service:
            principal = await resolved(service, sent.text)
        assert isinstance(principal, Principal), principal
        assert described(principal) == it.principal
        assert principal.issuer == sent.claims["iss"]


@pytest.mark.parametrize(("title", "what"), REFUSALS)
async def test_what_is_sent_in_its_place_is_refused(
    title: str, what: str, tmp_path: Path, clock: Clock
) -> None:
    it = configuration_of(ALL[title])
    async with serving_provider(tmp_path, it.toml, kid=it.kid) as local:
        sent = CHANGES[title][what](token_of(it).at(START))
        local.answers(sent)
        async with serving(local.settings, clock) as service:
            assert await resolved(service, sent.text) is ALL[title].refused[what]


@pytest.mark.parametrize("it", [it for it in PROVIDERS if not it.is_introspected], ids=titled)
async def test_explain_shows_what_the_page_shows(it: Section, tmp_path: Path) -> None:
    async with serving_provider(tmp_path, it.toml, kid=it.kid) as local:
        printed = await explained(local, token_of(it).at(int(time.time())).text)
    lines = [line.strip() for line in printed.splitlines()]
    assert [line for line in lines if line in it.shown.values()] == list(it.shown.values())
    assert f"It would be accepted, for {it.principal['subject']}." in lines


async def explained(local: Local, token: str) -> str:
    arguments = ["explain", "--config", str(local.config), "--fetch"]
    return (await asyncio.to_thread(CliRunner().invoke, main, arguments, input=token)).output


@pytest.mark.parametrize("it", PROVIDERS, ids=titled)
async def test_doctor_finds_nothing_wrong(it: Section, tmp_path: Path) -> None:
    async with serving_provider(tmp_path, it.toml, kid=it.kid) as local:
        # It asks about a text that is no token.
        local.answers(Sent({}, {"active": False}))
        found = await doctor(local)
        tables = len(local.settings.issuers) + it.is_introspected
    assert [finding.level for finding in found] == [Level.OK] * tables


async def doctor(local: Local) -> list[Finding]:
    checks = [*issuers.checks(local.settings), *introspection.checks(local.settings)]
    return [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]


# What the text says of other tokens

OKTA_CLIENT: dict[str, object] = {"subject": "0oa4client5", "scopes": ("tools.read",), "roles": ()}
PING_CLIENT: dict[str, object] = {"subject": "c0de0000-0000-4000-8000-222222222222"}
VARIANTS: dict[str, tuple[str, Change, dict[str, object]]] = {
    "Entra, a client without a user": (
        "Microsoft Entra ID: one tenant",
        lambda it: it.without("scp"),
        {"scopes": ()},
    ),
    "Entra, version 1, asked for by the id": ("Tokens of version 1", audience(API), {}),
    "Okta, a client without a user": (
        "Okta",
        lambda it: it.without("uid", "groups").having(sub="0oa4client5", scp=["tools.read"]),
        OKTA_CLIENT,
    ),
    "Auth0, the RFC 9068 profile": (
        "Auth0",
        lambda it: it.headed(typ="at+jwt").without("azp").having(client_id="CLIENTclaude"),
        {},
    ),
    "Auth0, a client without a user": (
        "Auth0",
        lambda it: it.having(sub="CLIENTclaude@clients", scope="tools:read", gty="x"),
        {"subject": "CLIENTclaude@clients", "scopes": ("tools:read",)},
    ),
    "Cognito, bound to the resource": ("Amazon Cognito", audience(RESOURCE), {}),
    "PingOne, a client without a user": ("PingOne", lambda it: it.without("sub"), PING_CLIENT),
    "PingOne, with a type": ("PingOne", lambda it: it.headed(typ="at+jwt"), {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_other_tokens_are_accepted_as_the_text_says(
    variant: str, tmp_path: Path, clock: Clock
) -> None:
    title, change, differs = VARIANTS[variant]
    it = ALL[title]
    async with (
        serving_provider(tmp_path, it.toml, kid=it.kid) as local,
        serving(local.settings, clock) as service,
    ):
        principal = await resolved(service, change(token_of(it).at(START)).text)
    assert isinstance(principal, Principal), principal
    assert described(principal) == {**it.principal, **differs}


# Traps


async def test_each_of_several_tenants_is_trusted(tmp_path: Path, clock: Clock) -> None:
    several, one = (ALL[f"Microsoft Entra ID: {it}"] for it in ("several tenants", "one tenant"))
    async with (
        serving_provider(tmp_path, several.toml, kid=several.kid) as local,
        serving(local.settings, clock) as service,
    ):
        found = [await resolved(service, token_of(it).at(START).text) for it in (several, one)]
    tenants = [principal.issuer for principal in found if isinstance(principal, Principal)]
    assert tenants == [it.documents[1]["iss"] for it in (several, one)]


@pytest.mark.parametrize(
    ("title", "written", "instead", "found"),
    [
        ("Auth0", "auth0.com/", "auth0.com", "they differ in the slash at the end"),
        (
            "Microsoft Entra ID: one tenant",
            "1a2b3c4d-0000-4000-8000-aaaaaaaaaaaa/v2.0",
            "common/v2.0",
            "is a template for all tenants",
        ),
    ],
)
async def test_doctor_shows_both_issuers_where_they_differ(
    title: str, written: str, instead: str, found: str, tmp_path: Path
) -> None:
    it = ALL[title]
    toml = it.toml.replace(f'{written}"', f'{instead}"')
    named = {"issuer": it.documents[1]["iss"], "jwks_uri": "https://acme.example/keys"}
    if "common" in instead:
        named["issuer"] = ENTRA.format("{tenantid}")
    async with serving_provider(tmp_path, toml, kid=it.kid) as local:
        for place in list(local.site.answers):
            local.site.answers[place] = json.dumps(named).encode()
        (finding,) = await doctor(local)
    assert finding.level is Level.FAIL
    assert found in finding.text
    assert named["issuer"] in finding.text


async def test_the_gate_sends_clients_to_each_issuer_as_it_is_written() -> None:
    written = list(dict.fromkeys(re.findall(r'^issuer = "(.*)"', PAGE, re.MULTILINE)))
    gate = SessionGate(
        Starlette(), resolver="127.0.0.1:1", resource=RESOURCE, authorization_servers=written
    )
    transport = httpx2.ASGITransport(gate)
    async with httpx2.AsyncClient(transport=transport, base_url="https://mcp.example.com") as http:
        metadata = (await http.get("/.well-known/oauth-protected-resource/mcp")).json()
    assert metadata["authorization_servers"] == written


async def test_explain_of_googles_access_token(tmp_path: Path) -> None:
    it = ALL["Keycloak"]
    async with serving_provider(tmp_path, it.toml, kid=it.kid) as local:
        printed = await explained(local, "ya29.a0AfB_byDf3Zx1Qm7Tn0")
    (quoted,) = re.findall(r"`(not three segments of ASCII)`", PAGE)
    assert f"TOKEN_MALFORMED: {quoted}" in printed


async def test_why_google_is_not_configured_as_an_issuer(tmp_path: Path, clock: Clock) -> None:
    """An ID token of any service account, which its owner has asked for with our audience."""
    toml = (
        '[[issuers]]\nissuer = "https://accounts.google.com"\n'
        'algorithms = ["RS256"]\ndiscover = true\n'
    )
    of_anybody = token_of(ALL["Google"]).without("at_hash").having(aud=RESOURCE).at(START)
    async with (
        serving_provider(tmp_path, toml, kid=ALL["Google"].kid) as local,
        serving(local.settings, clock) as service,
    ):
        principal = await resolved(service, of_anybody.text)
    assert isinstance(principal, Principal)
    assert "Do not write `[[issuers]]` for `https://accounts.google.com`" in PAGE


def test_the_short_name_of_an_entra_scope_stands_for_the_long_one() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    page: dict[str, Any] = {
        "with_broader_scopes": with_broader_scopes,
        "requirement": lambda method, params: Requirement((page["LONG"],)),
    }
    exec("\n".join(map(str.strip, block.splitlines())), page)  # noqa: S102 - the page's own code
    needed = required(page["requirement"], "tools/call", {"name": "search"})
    assert needed is not None
    granted = ALL["Microsoft Entra ID: one tenant"].principal["scopes"]
    assert isinstance(granted, tuple)
    assert needed.met_by(granted)
    assert not needed.met_by(["Tools.Write"])
    assert needed.scopes == (page["LONG"],)  # what the challenge names


# Cognito's tokens as others make them: moto's


@dataclass(frozen=True)
class Pool:
    """A user pool of moto's, with the user ada in the group readers.

    Attributes:
        name: its id.
        client: the id of an app client.
        subject: ada's.
        tokens: what ada gets by signing in, by Cognito's names.
        documents: what the pool publishes, by path.
    """

    name: str
    client: str
    subject: str
    tokens: Mapping[str, str]
    documents: Mapping[str, bytes]


def pool_of_moto(url: str) -> Pool:
    with closing(cognito(url)) as aws:
        pool = aws.create_user_pool(PoolName="page")["UserPool"]["Id"]
        created = aws.create_user_pool_client(
            UserPoolId=pool, ClientName="claude", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
        )
        client = created["UserPoolClient"]["ClientId"]
        ada = {"UserPoolId": pool, "Username": "ada"}
        user = aws.admin_create_user(**ada)["User"]["Attributes"]
        aws.create_group(UserPoolId=pool, GroupName="readers")
        aws.admin_add_user_to_group(**ada, GroupName="readers")
        aws.admin_set_user_password(**ada, Password="Passw0rd!", Permanent=True)
        signed_in = aws.initiate_auth(
            ClientId=client,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": "ada", "PASSWORD": "Passw0rd!"},
        )
    (subject,) = (it["Value"] for it in user if it["Name"] == "sub")
    paths = [f"/{pool}/.well-known/{it}" for it in ("openid-configuration", "jwks.json")]
    headers = {"Host": "cognito-idp.eu-central-1.amazonaws.com"}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False) as http:
        # moto names its own scheme.
        documents = {
            path: http.get(path).content.replace(b"http://", b"https://") for path in paths
        }
    return Pool(pool, client, subject, signed_in["AuthenticationResult"], documents)


def cognito(url: str) -> Any:  # noqa: ANN401 - botocore makes its clients' methods as it runs
    return botocore.session.get_session().create_client(
        "cognito-idp",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(proxies={}),
    )


async def test_tokens_of_motos_cognito(tmp_path: Path) -> None:
    it = ALL["Amazon Cognito"]
    with serving_s3({}) as url:  # it serves all of moto
        pool = await asyncio.to_thread(pool_of_moto, url)
    shown_pool, shown_client = it.documents[1]["iss"].rpartition("/")[2], it.principal["client_id"]
    toml = it.toml.replace(shown_pool, pool.name).replace(str(shown_client), pool.client)
    async with serving_provider(tmp_path, toml, kid=it.kid) as local:
        local.site.answers = {**pool.documents}
        async with serving(local.settings, time.time) as service:
            principal = await resolved(service, pool.tokens["AccessToken"])
            refused = await resolved(service, pool.tokens["IdToken"])
    assert isinstance(principal, Principal)
    assert described(principal) == {
        **it.principal,
        "subject": pool.subject,
        "client_id": pool.client,
        "scopes": ("aws.cognito.signin.user.admin",),
    }
    assert refused is it.refused["its ID token"]
