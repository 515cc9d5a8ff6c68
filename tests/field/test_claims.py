"""Claims as identity providers name them, and tokens that name no audience."""

from __future__ import annotations

import json
from pathlib import Path
from secrets import token_hex
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal
from authsvc.domain.tokens import BearerToken
from authsvc.server.config import IssuerSettings
from authsvc.server.issuers import issuer_of
from authsvc.tokens.claim_paths import MAX_PATH_LENGTH
from authsvc.tokens.jwt import JwtVerifier
from authsvc.tokens.values import MAX_STRINGS
from tests.support.clock import START
from tests.support.tokens import OTHER_RESOURCE, RESOURCE

pytestmark = pytest.mark.anyio

ISSUER = "https://idp.example"
BASE: dict[str, object] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": RESOURCE,
    "iat": START,
    "exp": START + 600,
}


class Field:
    """An issuer as it is configured, and tokens of it."""

    def __init__(self, folder: Path) -> None:
        self._secret = token_hex(32)
        self._file = folder / "secret"
        self._file.write_text(self._secret)

    async def verify(
        self, settings: dict[str, object], resource: str = RESOURCE, /, **claims: object
    ) -> Principal:
        """The principal of a token with these claims; None leaves one out."""
        table = {"issuer": ISSUER, "algorithms": ["HS256"], "secret_file": self._file, **settings}
        verifier = JwtVerifier([issuer_of(IssuerSettings.model_validate(table))])
        payload = {name: it for name, it in {**BASE, **claims}.items() if it is not None}
        token = BearerToken(jwt.api_jws.encode(json.dumps(payload).encode(), self._secret))
        return (await verifier.verify(token, resource=resource, now=START)).principal

    async def refusal(
        self, settings: dict[str, object], resource: str = RESOURCE, /, **claims: object
    ) -> Reason:
        with pytest.raises(AuthError) as caught:
            await self.verify(settings, resource, **claims)
        return caught.value.reason


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


@pytest.mark.parametrize("name", ["scope", "scp"])
@pytest.mark.parametrize("value", ["read write", ["read", "write"]])
async def test_scopes_are_a_string_or_a_list(field: Field, name: str, value: object) -> None:
    assert (await field.verify({}, **{name: value})).scopes == ("read", "write")


@pytest.mark.parametrize(
    "path",
    [
        ("/realm_access/roles", {"realm_access": {"roles": ["a", "b"]}}),
        ("/resource_access/api/roles", {"resource_access": {"api": {"roles": ["a", "b"]}}}),
        ("cognito:groups", {"cognito:groups": ["a", "b"]}),
        ("groups", {"groups": ["a", "b"]}),
        ("https://example.com/roles", {"https://example.com/roles": ["a", "b"]}),
        ("/https:~1~1example.com~1roles", {"https://example.com/roles": ["a", "b"]}),
        ("/a~0b/1", {"a~b": ["no", ["a", "b"]]}),
        ("a.b", {"a.b": ["a", "b"], "a": {"b": ["no"]}}),
    ],
    ids=lambda it: it[0],
)  # fmt: skip
async def test_roles_are_where_the_provider_puts_them(
    field: Field, path: tuple[str, dict[str, object]]
) -> None:
    where, claims = path
    assert (await field.verify({"claims": {"roles": where}}, **claims)).roles == ("a", "b")
    is_usual = where in {"/realm_access/roles", "groups"}
    assert (await field.verify({}, **claims)).roles == (("a", "b") if is_usual else ())


async def test_several_claims_are_one_list_of_roles_without_repeats(field: Field) -> None:
    claims = {"roles": ["a"], "realm_access": {"roles": ["b", "a"]}, "groups": "c"}
    assert (await field.verify({}, **claims)).roles == ("a", "b", "c")
    settings: dict[str, object] = {"claims": {"roles": ["groups", "roles"]}}
    assert (await field.verify(settings, **claims)).roles == ("c", "a")


@pytest.mark.parametrize(
    "groups",
    [["g"] * 257, [{"id": 1}], {"a": "b"}, 7, ["g", None], ["g", ""], "", ["g" * 1_025], []],
    ids=lambda it: f"{str(it)[:20]}",
)
async def test_other_claims_where_roles_often_are_do_not_matter(
    field: Field, groups: object
) -> None:
    claims = {"roles": ["r"], "groups": groups, "realm_access": {"roles": groups}}
    assert (await field.verify({}, **claims)).roles == ("r",)
    if groups:
        settings: dict[str, object] = {"claims": {"roles": ["roles", "groups"]}}
        assert await field.refusal(settings, **claims) is not None


@pytest.mark.parametrize("odd", [7, ["app"], [], {"name": "app"}, "", "c" * 1_025])
async def test_other_claims_where_clients_often_are_do_not_matter(
    field: Field, odd: object
) -> None:
    principal = await field.verify({}, client_id=None, cid=odd, appid="app1")
    assert principal.client_id == "app1"
    assert (await field.verify({}, client_id=None, cid="c1", appid=odd)).client_id == "c1"


@pytest.mark.parametrize("profile", ["entra", "auth0", "quilt"])
async def test_groups_are_no_roles_of_a_provider_that_has_roles(field: Field, profile: str) -> None:
    claims = {"oid": "0f7d", "azp": "app1", "groups": ["g"], "roles": ["r"]}
    assert (await field.verify({"profile": profile}, **claims)).roles == ("r",)


@pytest.mark.parametrize("part", ["roles", "buckets", "permissions"])
async def test_one_string_counts_as_a_list_of_it(field: Field, part: str) -> None:
    principal = await field.verify({}, **{part: "only one"} if part == "roles" else {part: "one"})
    assert getattr(principal, part) == (("only one",) if part == "roles" else ("one",))


@pytest.mark.parametrize(
    "claims",
    [
        {"realm_access": None},
        {"realm_access": "roles"},
        {"realm_access": ["roles"]},
        {"realm_access": {"roles": None}},
        {"realm_access": {}},
    ],
    ids=repr,
)
async def test_a_pointer_that_leads_nowhere_finds_no_role(
    field: Field, claims: dict[str, object]
) -> None:
    assert (await field.verify({"profile": "keycloak"}, **claims)).roles == ()


@pytest.mark.parametrize("value", [7, {"a": 1}, [7], [None], [""], "", [["a"]], True])
async def test_a_claim_of_another_type_is_malformed(field: Field, value: object) -> None:
    settings: dict[str, object] = {"claims": {"roles": "groups"}}
    assert await field.refusal(settings, groups=value) is Reason.TOKEN_MALFORMED


async def test_all_claims_together_are_bounded(field: Field) -> None:
    settings: dict[str, object] = {"claims": {"roles": ["one", "two"]}}
    half = MAX_STRINGS["roles"] // 2
    one, two = ([f"{name}{n}" for n in range(half + extra)] for name, extra in (("a", 0), ("b", 1)))
    assert len((await field.verify(settings, one=one, two=two[1:])).roles) == MAX_STRINGS["roles"]
    assert await field.refusal(settings, one=one, two=two) is Reason.TOKEN_TOO_LARGE


@pytest.mark.parametrize("name", ["client_id", "azp", "cid", "appid"])
async def test_the_client_is_found_under_each_usual_name(field: Field, name: str) -> None:
    assert (await field.verify({}, **{name: "app1"})).client_id == "app1"


async def test_the_first_client_that_is_there_counts(field: Field) -> None:
    claims = {"client_id": "", "azp": None, "cid": "c", "appid": "a"}
    assert (await field.verify({}, **claims)).client_id == "c"
    settings: dict[str, object] = {"claims": {"client_id": ["appid", "cid"]}}
    assert (await field.verify(settings, **claims)).client_id == "a"


async def test_another_claim_is_the_subject_of_tokens_without_sub(field: Field) -> None:
    settings: dict[str, object] = {"claims": {"subject": ["/user/id", "uid"]}}
    assert (await field.verify(settings, sub=None, user={"id": "u1"}, uid="u2")).subject == "u1"
    assert (await field.verify(settings, sub=None, uid="u2")).subject == "u2"
    # What is not configured is never the subject.
    assert await field.refusal(settings) is Reason.TOKEN_CLAIM_MISSING
    assert await field.refusal({}, sub=None, uid="u2") is Reason.TOKEN_CLAIM_MISSING


CLIENTS: dict[str, object] = {"client_ids": ["app1", "app2"]}


async def test_a_token_without_aud_is_accepted_for_its_client(field: Field) -> None:
    assert (await field.verify(CLIENTS, aud=None, client_id="app1")).client_id == "app1"
    for client in ("app3", "APP1", "", None):
        refused = await field.refusal(CLIENTS, aud=None, client_id=client)
        assert refused is Reason.TOKEN_AUDIENCE_MISMATCH
    assert await field.refusal({}, aud=None, client_id="app1") is Reason.TOKEN_AUDIENCE_MISMATCH


@pytest.mark.parametrize("audience", [OTHER_RESOURCE, "app1", [], "", ["app1"]])
async def test_a_client_does_not_stand_in_for_an_aud_that_is_there(
    field: Field, audience: object
) -> None:
    refused = await field.refusal(CLIENTS, aud=audience, client_id="app1")
    assert refused is Reason.TOKEN_AUDIENCE_MISMATCH


async def test_clients_by_resource_are_for_that_resource_alone(field: Field) -> None:
    settings: dict[str, object] = {"client_ids": {RESOURCE: ["app1"]}}
    await field.verify(settings, RESOURCE, aud=None, client_id="app1")
    refused = await field.refusal(settings, OTHER_RESOURCE, aud=None, client_id="app1")
    assert refused is Reason.TOKEN_AUDIENCE_MISMATCH


@pytest.mark.parametrize(
    ("resource", "audience", "equal"),
    [
        ("https://h.example", "https://h.example/", True),
        ("https://h.example", "https://h.example:443", True),
        ("https://h.example/mcp", "https://H.example:443/mcp", True),
        ("https://h.example", ["x", "https://h.example/"], True),
        ("https://h.example/mcp", "https://h.example/mcp/", False),
        ("https://h.example/mcp", "https://h.example/MCP", False),
        ("https://h.example", "http://h.example", False),
        ("https://h.example", "https://h.example.evil.example", False),
        ("https://h.example", "https://user@h.example/", False),
        ("https://h.example", "https://h.example/#", False),
    ],
)
async def test_equivalent_spellings_of_the_audience_are_equal(
    field: Field, resource: str, audience: object, *, equal: bool
) -> None:
    if equal:
        await field.verify({}, resource, aud=audience)
    else:
        refused = await field.refusal({}, resource, aud=audience)
        assert refused is Reason.TOKEN_AUDIENCE_MISMATCH


KEYCLOAK = {
    "typ": "Bearer",
    "azp": "web",
    "scope": "openid read",
    "realm_access": {"roles": ["reader"]},
    "resource_access": {"account": {"roles": ["manage-account"]}},
}
ENTRA = {
    "ver": "2.0",
    "sub": "pairwise",
    "oid": "0f7d",
    "azp": "app1",
    "scp": "Buckets.Read Buckets.Write",
    "roles": ["Reader"],
}
ENTRA_V1 = {
    "ver": "1.0",
    "appid": "app1",
    **{it: ENTRA[it] for it in ENTRA if it not in {"azp", "ver"}},
}
COGNITO = {
    "aud": None,
    "token_use": "access",
    "client_id": "app1",
    "scope": "api/read",
    "cognito:groups": ["admins"],
    "username": "alice",
}
OKTA = {"cid": "app1", "uid": "00u1", "scp": ["read", "write"], "groups": ["Everyone"]}
AUTH0 = {
    "sub": "auth0|1",
    "azp": "app1",
    "scope": "openid read",
    "permissions": ["s3:GetObject"],
    "gty": "password",
}


OKTA_INTROSPECTED = {
    "client_id": "app1",
    "uid": "00u1",
    "scope": "read write",
    "groups": ["Everyone"],
}


@pytest.mark.parametrize("audience", [RESOURCE, "app1"])
@pytest.mark.parametrize(
    ("profile", "claims", "mark"),
    [
        ("entra", ENTRA, "azp"),
        ("entra", ENTRA_V1, "appid"),
        ("okta", OKTA, "cid"),
        ("okta", OKTA_INTROSPECTED, "client_id"),
        ("auth0", AUTH0, "azp"),
        ("keycloak", KEYCLOAK, "typ"),
        ("cognito", {**COGNITO, "aud": "app1"}, "token_use"),
    ],
)
async def test_an_id_token_is_no_access_token(
    field: Field, profile: str, claims: dict[str, object], mark: str, audience: str
) -> None:
    """Not even where the resource accepts its audience: a client that is an API, too."""
    settings: dict[str, object] = {"profile": profile, "audiences": {RESOURCE: ["app1", RESOURCE]}}
    await field.verify(settings, **{**claims, "aud": audience})
    another = {"typ": "ID", "token_use": "id"}.get(mark)
    for value in (another, "") if another is None else (another,):
        refused = await field.refusal(settings, **{**claims, "aud": audience, mark: value})
        assert refused is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    ("profile", "settings", "claims", "subject", "client", "scopes", "roles"),
    [
        ("keycloak", {}, KEYCLOAK, "alice", "web", ("openid", "read"), ("reader",)),
        ("entra", {}, ENTRA, "0f7d", "app1", ("Buckets.Read", "Buckets.Write"), ("Reader",)),
        ("entra", {}, ENTRA_V1, "0f7d", "app1", ("Buckets.Read", "Buckets.Write"), ("Reader",)),
        ("cognito", CLIENTS, COGNITO, "alice", "app1", ("api/read",), ("admins",)),
        ("okta", {}, OKTA, "alice", "app1", ("read", "write"), ("Everyone",)),
        ("okta", {}, OKTA_INTROSPECTED, "alice", "app1", ("read", "write"), ("Everyone",)),
        ("auth0", {}, AUTH0, "auth0|1", "app1", ("openid", "read"), ()),
    ],
)
async def test_profiles(
    field: Field,
    profile: str,
    settings: dict[str, object],
    claims: dict[str, object],
    subject: str,
    client: str,
    scopes: tuple[str, ...],
    roles: tuple[str, ...],
) -> None:
    principal = await field.verify({"profile": profile, **settings}, **claims)
    assert (principal.subject, principal.client_id) == (subject, client)
    assert (principal.scopes, principal.roles) == (scopes, roles)
    assert principal.permissions == (("s3:GetObject",) if profile == "auth0" else ())


async def test_a_profile_is_changed_claim_by_claim(field: Field) -> None:
    settings: dict[str, object] = {"profile": "keycloak", "claims": {"roles": "groups"}}
    principal = await field.verify(settings, **KEYCLOAK, groups=["/staff"])
    assert (principal.roles, principal.client_id) == (("/staff",), "web")


@pytest.mark.parametrize(
    ("settings", "claims"),
    [
        ({"profile": "cognito", **CLIENTS}, {**COGNITO, "token_use": "id"}),
        ({"profile": "cognito", **CLIENTS}, {**COGNITO, "token_use": None}),
        ({"profile": "keycloak"}, {**KEYCLOAK, "typ": "ID"}),
        ({"profile": "keycloak"}, {**KEYCLOAK, "typ": "Refresh"}),
        ({"profile": "keycloak"}, {**KEYCLOAK, "typ": "DPoP"}),
        ({}, {"at_hash": "AA"}),
        ({}, {"cnf": {"jkt": "AA"}}),
        ({}, {"cnf": {"x5t#S256": "AA"}}),
        ({}, {"cnf": "AA"}),
        ({}, {"c_hash": "AA", "aud": [RESOURCE]}),
    ],
)
async def test_other_tokens_of_the_same_issuer_are_rejected(
    field: Field, settings: dict[str, object], claims: dict[str, object]
) -> None:
    assert await field.refusal(settings, **claims) is Reason.TOKEN_MALFORMED


BY_CERTIFICATE = {"x5t#S256": "AA"}


@pytest.mark.parametrize(
    "confirmation",
    [
        {"jkt": "AA"},
        {"jwk": {"kty": "EC"}},
        {"kid": "one"},
        {**BY_CERTIFICATE, "jkt": "AA"},
        {"x5t": "AA"},
        "AA",
        ["x5t#S256"],
        True,
    ],
    ids=str,
)
async def test_a_token_that_is_bound_to_a_key_is_no_bearer_token(
    field: Field, confirmation: object
) -> None:
    for is_allowed in (False, True):
        settings: dict[str, object] = {"allow_certificate_bound": is_allowed}
        assert await field.refusal(settings, cnf=confirmation) is Reason.TOKEN_MALFORMED


async def test_a_certificate_that_a_proxy_compares(field: Field) -> None:
    with pytest.raises(AuthError) as caught:
        await field.verify({}, cnf=BY_CERTIFICATE)
    assert caught.value.reason is Reason.TOKEN_MALFORMED
    assert caught.value.setting.endswith("allow_certificate_bound")
    settings: dict[str, object] = {"allow_certificate_bound": True}
    assert (await field.verify(settings, cnf=BY_CERTIFICATE)).subject == "alice"


async def test_an_empty_confirmation_binds_nothing(field: Field) -> None:
    assert (await field.verify({}, cnf={})).subject == "alice"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"subject": []}, "names one claim or more"),
        ({"subject": ""}, "is a claim's name"),
        ({"roles": "/a~2b"}, "is a JSON Pointer"),
        ({"roles": "x" * (MAX_PATH_LENGTH + 1)}, "is a claim's name"),
        ({"rolls": "roles"}, "rolls"),
        ({"roles": 7}, "roles"),
    ],
    ids=repr,
)
def test_paths_that_cannot_be_meant_are_refused(claims: dict[str, Any], message: str) -> None:
    table = {"issuer": ISSUER, "algorithms": ["ES256"], "discover": True, "claims": claims}
    with pytest.raises(ValidationError, match=message):
        IssuerSettings.model_validate(table)
