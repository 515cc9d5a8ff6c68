"""The names of a principal at AWS."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.credentials.attribution import claim_tags, session_name, session_tags
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, Principal
from tests.support.clock import START
from tests.support.tokens import ISSUER


def principal(subject: str = "alice", issuer: str = ISSUER, client_id: str = "") -> Principal:
    return Principal(issuer, subject, START + 600, client_id)


def test_a_name_begins_with_the_subject() -> None:
    readable = session_name(principal("alice@example.com"))
    assert re.fullmatch(r"alice@example\.com-[a-z2-7]{16}", readable)
    assert re.fullmatch(r"auth0-alice-[a-z2-7]{16}", session_name(principal("auth0|alice")))


@given(subject=st.text(min_size=1, max_size=200))
def test_every_name_is_one_that_sts_accepts(subject: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", session_name(principal(subject)))


@given(one=st.tuples(st.text(), st.text()), other=st.tuples(st.text(), st.text()))
def test_two_principals_have_two_names(one: tuple[str, str], other: tuple[str, str]) -> None:
    same = one == other
    assert (session_name(principal(*one)) == session_name(principal(*other))) == same


def test_no_subject_equals_the_name_of_another() -> None:
    victim = session_name(principal("auth0|alice"))
    assert session_name(principal(victim)) != victim
    assert session_name(principal("auth0-alice")) != victim


def test_issuer_and_subject_cannot_be_cut_elsewhere() -> None:
    one = session_name(principal("b", issuer="https://a"))
    assert one != session_name(principal("ab", issuer="https://"))


def test_tags_are_the_claims_of_the_token() -> None:
    assert session_tags(principal("alice", client_id="client")) == [
        ("issuer", ISSUER),
        ("subject", "alice"),
        ("client_id", "client"),
    ]


def test_tags_name_the_current_actor_and_its_issuer() -> None:
    agent = Actor("agent", actor=Actor("first", "https://first.example"))
    tags = dict(session_tags(replace(principal(), actor=agent)))
    assert (tags["subject"], tags["actor"], tags["actor_issuer"]) == ("alice", "agent", ISSUER)
    elsewhere = Actor("auth0|agent", "https://agents.example")
    tags = dict(session_tags(replace(principal(), actor=elsewhere)))
    assert "actor" not in tags
    assert tags["actor_issuer"] == "https://agents.example"


@pytest.mark.parametrize("subject", ["auth0|alice", "a" * 257, "alice\n", "a*", "", "a\tb"])
def test_a_value_that_aws_does_not_accept_is_left_out(subject: str) -> None:
    assert session_tags(principal(subject)) == [("issuer", ISSUER)]


@pytest.mark.parametrize("claim", ["blue", ["blue"]])
def test_a_tag_has_the_value_of_its_claim(claim: object) -> None:
    who = replace(principal(), claims_json=json.dumps({"team": claim}).encode())
    assert claim_tags(who, {"Team": lambda claims: claims.get("team")}) == [("Team", "blue")]


@pytest.mark.parametrize(
    "claim",
    [None, "", [], ["a", "b"], [""], [["a"]], 1, True, {"a": "b"}, "a*", "a\n", "${x}", "x" * 257],
)
def test_a_claim_that_is_no_value_of_a_tag_is_no_credentials(claim: object) -> None:
    who = replace(principal(), claims_json=json.dumps({"team": claim, "secret": "s3"}).encode())
    with pytest.raises(AuthError, match="claim for tag 'Team'") as no:
        claim_tags(who, {"Team": lambda claims: claims.get("team")})
    assert no.value.reason is Reason.CREDENTIALS_REFUSED
    assert no.value.setting == "credentials.sts.claim_tags"
