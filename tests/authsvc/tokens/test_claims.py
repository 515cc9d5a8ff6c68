"""The mapping of claims to a principal."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.admin import checks as administration
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import session_digest
from authsvc.domain.resolution import Actor, Principal
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import (
    ClaimMapping,
    kept_text,
    numeric_date,
    optional_text,
)
from authsvc.tokens.values import MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH

QUILT = ClaimMapping.of("quilt", subject=(ClaimPath("id"),))

BASE: dict[str, Any] = {"iss": "https://idp.example", "sub": "alice", "exp": 1_800_000_600}


def principal(**claims: object) -> Principal:
    merged = {**BASE, **claims}
    return ClaimMapping().principal(merged, json.dumps(merged).encode())


def reason(**claims: object) -> Reason:
    with pytest.raises(AuthError) as caught:
        principal(**claims)
    return caught.value.reason


def test_the_least_claims_of_a_principal() -> None:
    assert principal() == Principal(
        "https://idp.example",
        "alice",
        1_800_000_600.0,
        claims_json=b'{"iss": "https://idp.example", "sub": "alice", "exp": 1800000600}',
    )


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, ("a", "b")),
        ({"scope": " a  a b "}, ("a", "b")),
        ({"scope": ""}, ()),
        ({"scope": "a\u00a0b c\td"}, ("a\u00a0b", "c\td")),
        ({"scp": "a b"}, ("a", "b")),
        ({"scp": ["a", "b"]}, ("a", "b")),
        ({"scope": "x", "scp": ["a"]}, ("x",)),
    ],
)
def test_scopes(claims: dict[str, object], scopes: tuple[str, ...]) -> None:
    assert principal(**claims).scopes == scopes


def test_lists_keep_their_order_and_lose_repeats() -> None:
    who = principal(roles=["b", "a", "b"], permissions=["s3:GetObject"])
    assert (who.roles, who.permissions) == (("b", "a"), ("s3:GetObject",))


def test_buckets_have_one_spelling() -> None:
    who = principal(buckets=["s3://one", "two", "s3://one/prefix", "two/x"])
    assert who.buckets == ("one", "two")


def test_the_client() -> None:
    assert principal(client_id="c", azp="z").client_id == "c"
    assert principal(azp="z").client_id == "z"


def test_the_actor() -> None:
    assert principal().actor is None
    assert principal(act={"sub": "agent"}).actor == Actor("agent")
    assert reason(act="agent") is Reason.TOKEN_MALFORMED
    mapping = ClaimMapping.of("standard", actor=(ClaimPath("/ext/by"),))
    claims = {**BASE, "act": "read", "ext": {"by": {"sub": "agent"}}}
    assert mapping.principal(claims, b"{}").actor == Actor("agent")
    assert mapping.sources(claims)["actor"] == ("/ext/by",)
    assert ClaimMapping.of("standard", actor=()).principal(claims, b"{}").actor is None


def test_the_subject_may_be_another_claim() -> None:
    mapping = ClaimMapping.of("standard", subject=(ClaimPath("id"),))
    assert mapping.principal({**BASE, "id": "bob"}, b"{}").subject == "bob"
    with pytest.raises(AuthError, match="TOKEN_CLAIM_MISSING: id"):
        mapping.principal(BASE, b"{}")


@pytest.mark.parametrize("name", ["iss", "sub", "exp"])
def test_a_missing_claim_is_named(name: str) -> None:
    assert reason(**{name: None}) is Reason.TOKEN_CLAIM_MISSING


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": ""},
        {"sub": 7},
        {"sub": ["alice"]},
        {"sub": "alice\x00"},
        {"sub": "alice\n"},
        {"sub": "al\u200bice"},
        {"sub": "x" * 256},
        {"iss": ""},
        {"exp": "1800000600"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1_800_000_600_000},
        {"exp": float("inf")},
        {"exp": float("-inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": 253_402_300_800},
        {"scope": 1},
        {"scp": [1]},
        {"scp": {"a": 1}},
        {"roles": ["reader", 1]},
        {"roles": [None]},
        {"roles": [""]},
        {"roles": {"a": 1}},
        {"buckets": ["s3://"]},
        {"buckets": ["/x"]},
        {"buckets": ["a b"]},
        {"buckets": ["b\u00fccket"]},
        {"permissions": ""},
        {"client_id": 5},
        {"azp": []},
    ],
    ids=lambda claims: repr(claims)[:40],
)
def test_a_malformed_claim_is_named(claims: dict[str, object]) -> None:
    assert reason(**claims) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "claims",
    [
        {"roles": ["x"] * 10_001},
        {"roles": ["x"] * 257},
        {"scope": " ".join(f"s{n}" for n in range(257))},
        {"scp": [f"s{n}" for n in range(257)]},
        {"buckets": [f"bucket-{n}" for n in range(1_001)]},
        {"permissions": [f"s3:P{n}" for n in range(1_001)]},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_too_many_entries_are_too_large(claims: dict[str, object]) -> None:
    assert reason(**claims) is Reason.TOKEN_TOO_LARGE


MOST = "é" * MAX_TEXT_LENGTH


@pytest.mark.parametrize(
    "claims_of",
    [
        lambda text: {"client_id": text},
        lambda text: {"azp": text},
        lambda text: {"roles": ["reader", text]},
        lambda text: {"permissions": [text]},
        lambda text: {"scope": f"read {text}"},
        lambda text: {"scp": [text]},
        lambda text: {"scp": text},
        lambda text: {"buckets": [f"s3://{text.replace('é', 'b')[5:]}"]},
    ],
    ids=["client_id", "azp", "roles", "permissions", "scope", "scp", "scp as text", "buckets"],
)
def test_each_text_is_bounded(claims_of: Callable[[str], dict[str, object]]) -> None:
    principal(**claims_of(MOST))
    with pytest.raises(AuthError) as caught:
        principal(**claims_of(MOST + "é"))
    assert caught.value.reason is Reason.TOKEN_TOO_LARGE
    assert "é" not in caught.value.detail


def test_the_provider_session() -> None:
    session = ClaimMapping().provider_session
    assert session(BASE) == ""
    assert session({**BASE, "sid": None}) == ""
    assert session({**BASE, "sid": "s1"}) == session_digest(str(BASE["iss"]), "s1")
    assert session({**BASE, "sid": "s1", "iss": "else"}) == session_digest("else", "s1")
    assert session({**BASE, "sid": MOST}) == session_digest(str(BASE["iss"]), MOST)


def test_the_provider_session_may_be_another_claim_or_none() -> None:
    claims = {**BASE, "sid": "s1", "ext": {"session": "s2"}}
    paths = (ClaimPath("/ext/session"), ClaimPath("sid"))
    other = ClaimMapping.of("standard", session=paths)
    assert other.provider_session(claims) == session_digest(str(BASE["iss"]), "s2")
    assert other.sources(claims)["session"] == ("/ext/session",)
    assert ClaimMapping.of("standard", session=()).provider_session({**claims, "sid": 7}) == ""


@pytest.mark.parametrize("sid", ["", 7, True, ["s1"], {"id": "s1"}, MOST + "é"], ids=repr)
def test_a_malformed_provider_session_is_rejected(sid: object) -> None:
    """Were it ignored, no sign-out that names the session would revoke the token."""
    with pytest.raises(AuthError) as caught:
        ClaimMapping().provider_session({**BASE, "sid": sid})
    assert caught.value.reason is Reason.TOKEN_MALFORMED
    assert caught.value.setting == "claims.session"
    assert "é" not in caught.value.detail


def test_a_token_id_is_bounded() -> None:
    assert kept_text({"jti": MOST}, "jti") == MOST
    with pytest.raises(AuthError) as caught:
        kept_text({"jti": MOST + "é"}, "jti")
    assert caught.value.reason is Reason.TOKEN_TOO_LARGE


def test_an_operator_can_name_any_accepted_token_id() -> None:
    """Otherwise a token could not be revoked by its id, nor a subject's sessions be found."""
    assert max(MAX_TEXT_LENGTH, MAX_SUBJECT_LENGTH) <= administration.MAX_TEXT_LENGTH


def test_a_detail_names_the_claim_and_not_its_value() -> None:
    with pytest.raises(AuthError) as caught:
        principal(roles=["hush", 7])
    assert "roles" in caught.value.detail
    assert "hush" not in caught.value.detail


def test_single_claims() -> None:
    assert numeric_date({}, "nbf") is None
    assert numeric_date({"nbf": 0}, "nbf") == 0.0
    assert numeric_date({"nbf": 1.5}, "nbf") == 1.5
    assert optional_text({}, "jti") == ""
    assert optional_text({"jti": "x"}, "jti") == "x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
PACKED = st.fixed_dictionaries(
    {
        "_type": st.sampled_from(["groups", "patterns", "compressed", "other"]),
        "_data": JSON
        | st.dictionaries(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=4))
        | JSON.map(lambda value: base64.b64encode(json.dumps(value).encode()).decode()),
    }
)
NAMES = st.sampled_from(
    [*BASE, "scope", "scp", "roles", "buckets", "permissions", "client_id", "azp", "act", *"prbsl"]
)


@pytest.mark.parametrize("mapping", [ClaimMapping(), QUILT])
@given(claims=st.dictionaries(NAMES, JSON | PACKED, max_size=8), base=st.booleans())
def test_arbitrary_claims_are_a_principal_or_an_auth_error(
    mapping: ClaimMapping, claims: dict[str, Any], base: bool
) -> None:
    if base:
        claims = {**claims, **BASE, "id": "alice"}
    try:
        who = mapping.principal(claims, b"{}")
    except AuthError:
        return
    assert who.subject
    for names in (who.scopes, who.roles, who.buckets, who.permissions):
        assert all(names)
