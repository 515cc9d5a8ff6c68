"""Claim ``act``: chains of delegation, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import MAX_ACTORS, Actor
from authsvc.tokens.actors import actor_of
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.profiles import PROFILES
from authsvc.tokens.values import MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH

ACT = (ClaimPath("act"),)


def fault(act: object) -> AuthError:
    with pytest.raises(AuthError) as caught:
        actor_of({"act": act}, ACT)
    assert caught.value.reason is Reason.TOKEN_MALFORMED
    assert caught.value.setting == "claims.actor"
    return caught.value


def nested(depth: int) -> dict[str, Any]:
    act: dict[str, Any] = {"sub": f"agent-{depth}"}
    for number in reversed(range(1, depth)):
        act = {"sub": f"agent-{number}", "act": act}
    return act


def test_a_token_without_the_claim_has_no_actor() -> None:
    assert actor_of({}, ACT) is None
    assert actor_of({"act": None}, ACT) is None


def test_the_current_actor_is_outermost() -> None:
    """As in the example of RFC 8693 section 4.1: a chain of two services."""
    actor = actor_of({"act": {"sub": "service77", "act": {"sub": "service16"}}}, ACT)
    assert actor == Actor("service77", actor=Actor("service16"))
    assert [it.subject for it in actor.chain()] == ["service77", "service16"]


def test_other_members_are_ignored() -> None:
    act = {"sub": "agent", "iss": "https://idp", "client_id": "app", "exp": "x", "scope": 7}
    assert actor_of({"act": act}, ACT) == Actor("agent", "https://idp", "app")
    assert actor_of({"act": {"sub": "a", "iss": None, "act": None}}, ACT) == Actor("a")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_it(profile: str) -> None:
    assert ClaimMapping.of(profile).paths.actor == ACT


def test_it_may_be_elsewhere_or_nowhere() -> None:
    claims = {"act": "read", "ext": {"a/b": {"sub": "agent"}}}
    assert actor_of(claims, (ClaimPath("/ext/a~1b"), *ACT)) == Actor("agent")
    assert actor_of(claims, ()) is None


@pytest.mark.parametrize("act", ["agent", ["agent"], [], "", 7, 0, True, False])
def test_what_is_no_object_is_named(act: object) -> None:
    assert fault(act).detail == "claim /act is not an object"
    assert fault({"sub": "agent", "act": act}).detail == "claim /act/act is not an object"


@pytest.mark.parametrize(
    ("member", "value", "what"),
    [
        ("sub", "", "is empty"),
        ("sub", 7, "is not a string"),
        ("sub", ["agent"], "is not a string"),
        ("sub", "x" * (MAX_SUBJECT_LENGTH + 1), "is longer than 255 characters"),
        ("sub", "agent\n", "has characters that cannot be printed"),
        ("sub", "ag\u200bent", "has characters that cannot be printed"),
        ("sub", "\ud800", "has characters that cannot be printed"),
        ("iss", "", "is empty"),
        ("iss", {}, "is not a string"),
        ("iss", "x" * (MAX_TEXT_LENGTH + 1), "is longer than 1024 characters"),
        ("iss", "https://idp\x00", "has characters that cannot be printed"),
        ("client_id", "", "is empty"),
        ("client_id", False, "is not a string"),
        ("client_id", "x" * (MAX_TEXT_LENGTH + 1), "is longer than 1024 characters"),
        ("client_id", "a\u202eb", "has characters that cannot be printed"),
    ],
    ids=lambda it: repr(it)[:30],
)
def test_a_member_that_is_none_is_named(member: str, value: object, what: str) -> None:
    wrong = {"sub": "agent", member: value}
    assert fault(wrong).detail == f"claim /act/{member} {what}"
    assert fault({"sub": "agent", "act": wrong}).detail == f"claim /act/act/{member} {what}"


def test_an_actor_has_a_subject() -> None:
    for wrong in ({}, {"sub": None}, {"client_id": "app"}):
        assert fault(wrong).detail == "claim /act has no sub"
    assert fault({"sub": "agent", "act": {}}).detail == "claim /act/act has no sub"


def test_the_pointer_is_that_of_the_configured_claim() -> None:
    with pytest.raises(AuthError, match="claim /a~1b~0/sub is empty"):
        actor_of({"a/b~": {"sub": ""}}, (ClaimPath("a/b~"),))
    with pytest.raises(AuthError, match="claim /ext/by/sub is empty"):
        actor_of({"ext": {"by": {"sub": ""}}}, (ClaimPath("/ext/by"),))


def test_the_longest_texts_are_accepted() -> None:
    text = "é" * MAX_TEXT_LENGTH
    act = {"sub": text[:MAX_SUBJECT_LENGTH], "iss": text, "client_id": text}
    assert actor_of({"act": act}, ACT) == Actor(text[:MAX_SUBJECT_LENGTH], text, text)


def test_a_chain_is_bounded() -> None:
    longest = actor_of({"act": nested(MAX_ACTORS)}, ACT)
    assert longest is not None
    assert len(list(longest.chain())) == MAX_ACTORS == 8
    for depth in (MAX_ACTORS + 1, 500):
        assert "is nested more than 8 deep" in fault(nested(depth)).detail


def test_a_detail_quotes_no_value() -> None:
    assert "hush" not in fault({"sub": "hush\n"}).detail


NAMES = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
CHAINS = st.lists(
    st.fixed_dictionaries({"sub": NAMES}, optional={"iss": NAMES, "client_id": NAMES}),
    min_size=1,
    max_size=MAX_ACTORS,
)


@given(CHAINS)
def test_a_chain_is_read_as_it_was_signed(chain: list[dict[str, Any]]) -> None:
    act: dict[str, Any] = {}
    for members in reversed(chain):
        act = {**members, "act": act} if act else members
    actor = actor_of({"act": act}, ACT)
    assert actor is not None
    assert actor.claim() == act
    assert [it.subject for it in actor.chain()] == [it["sub"] for it in chain]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["sub", "iss", "client_id", "act", "x"]), inner)
    ),
    max_leaves=30,
)


@given(JSON)
def test_an_arbitrary_value_is_a_chain_or_malformed(act: object) -> None:
    try:
        actor = actor_of({"act": act}, ACT)
    except AuthError:
        fault(act)
        return
    assert (actor is None) is (act is None)
    if actor is not None:
        assert all(it.subject for it in actor.chain())
        assert actor_of({"act": actor.claim()}, ACT) == actor
        json.dumps(actor.claim()).encode()
