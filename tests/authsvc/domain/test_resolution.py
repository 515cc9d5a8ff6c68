"""Values of a resolution: secrets show their text to ``reveal`` alone."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Principal,
    Resolution,
    Secret,
)


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret("hush") == Secret("hush")
    assert Secret("hush") != Secret("hush hush")
    assert len({Secret("hush"), Secret("hush"), Secret("other")}) == 2


def test_a_secret_equals_no_value_of_another_type() -> None:
    assert Secret("hush") != "hush"
    assert Secret("") != ""
    assert Secret("hush") != None  # noqa: E711 - the comparison itself is tested
    assert hash(Secret("hush")) != hash("hush")


def test_only_reveal_returns_the_text() -> None:
    secret = Secret("hush")
    assert secret.reveal() == "hush"
    assert "hush" not in f"{secret} {secret!r} {[secret]}"
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_only_an_empty_secret_is_false() -> None:
    assert Secret("hush")
    assert not Secret("")


def test_claims_are_parsed_once_and_at_their_first_use() -> None:
    principal = Principal("i", "s", 1.0, claims_json=b'{"tid": "t", "roles": ["a"]}')
    assert principal.claims["tid"] == "t"
    assert principal.claims is principal.claims
    assert principal == Principal("i", "s", 1.0, claims_json=principal.claims_json)
    assert "tid" not in repr(principal)
    assert pickle.loads(pickle.dumps(principal)).claims == principal.claims  # noqa: S301 - our own
    assert Principal("i", "s", 1.0).claims == {}


CHANGES: dict[str, Callable[[Any], object]] = {
    "set": lambda claims: operator.setitem(claims, "admin", True),
    "delete": lambda claims: operator.delitem(claims, "tid"),
    "merge": lambda claims: claims.__ior__({"admin": True}),
    "update": lambda claims: claims.update(admin=True),
    "default": lambda claims: claims.setdefault("admin", True),
    "pop": lambda claims: claims.pop("tid"),
    "popitem": lambda claims: claims.popitem(),
    "clear": lambda claims: claims.clear(),
    "inner set": lambda claims: operator.setitem(claims["realm"], "admin", True),
    "inner list": lambda claims: claims["realm"]["roles"].append("admin"),
    "list in a list": lambda claims: claims["lists"][0].append("admin"),
    "object in a list": lambda claims: claims["lists"][1].update(admin=True),
    "extend": lambda claims: claims["roles"].extend(["admin"]),
    "insert": lambda claims: claims["roles"].insert(0, "admin"),
    "remove": lambda claims: claims["roles"].remove("a"),
    "last": lambda claims: claims["roles"].pop(),
    "item": lambda claims: operator.setitem(claims["roles"], 0, "admin"),
    "no item": lambda claims: operator.delitem(claims["roles"], 0),
    "add": lambda claims: claims["roles"].__iadd__(["admin"]),
    "repeat": lambda claims: claims["roles"].__imul__(2),
    "empty": lambda claims: claims["roles"].clear(),
    "sort": lambda claims: claims["roles"].sort(),
    "reverse": lambda claims: claims["roles"].reverse(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_claims_that_requests_share_cannot_be_changed(change: Callable[[Any], object]) -> None:
    usual = {"tid": "t", "roles": ["b", "a"], "realm": {"roles": []}, "lists": [["x"], {"y": 1}]}
    principal = Principal("i", "s", 1.0, claims_json=json.dumps(usual).encode())
    with pytest.raises(TypeError, match="change a copy"):
        change(principal.claims)
    assert principal.claims == usual
    assert json.loads(json.dumps(principal.claims)) == usual
    change(copy.deepcopy(principal.claims))
    change(pickle.loads(pickle.dumps(principal.claims)))  # noqa: S301 - our own
    assert principal.claims == usual


@pytest.mark.parametrize("text", [b"[]", b"1", b"not json", b""])
def test_claims_that_are_none(text: bytes) -> None:
    principal = Principal("i", "s", 1.0, claims_json=text)
    with pytest.raises(ValueError, match=r"."):
        _ = principal.claims


def test_the_actors_of_a_chain_begin_with_the_current_one() -> None:
    first = Actor("first", "https://other.example", "app")
    current = Actor("current", actor=first)
    assert list(current.chain()) == [current, first]
    assert current.claim() == {
        "sub": "current",
        "act": {"sub": "first", "iss": "https://other.example", "client_id": "app"},
    }
    assert list(first.chain()) == [first]


def test_all_scopes_are_needed() -> None:
    principal = Principal("i", "s", 1.0, scopes=("read", "write"))
    assert principal.has_scope("read")
    assert principal.has_scope("read", "write")
    assert not principal.has_scope("read", "admin")
    assert not principal.has_scope("READ")
    assert not Principal("i", "s", 1.0).has_scope("read")


@pytest.mark.parametrize("scopes", [(), ("",), ("read write",)])
def test_what_is_no_scope_is_not_looked_for(scopes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="scope"):
        Principal("i", "s", 1.0, scopes=("read", "write")).has_scope(*scopes)


def test_a_list_is_no_scope() -> None:
    with pytest.raises(TypeError, match="a scope is a string, not list"):
        Principal("i", "s", 1.0).has_scope(["read"])  # type: ignore[arg-type]


def test_what_is_issued_is_everything_but_errors() -> None:
    first = BearerCredentials(Secret("first"), "Bearer", 1.0)
    second = AwsCredentials("AKIA", Secret("hush"), None, "eu-central-1", 1.0)
    refused = AuthError(Reason.CREDENTIALS_REFUSED)
    named: dict[str, Credentials | AuthError] = {"refused": refused, "second": second}
    resolution = Resolution(credentials=first, named_credentials=named)
    assert [*resolution.issued()] == [first, second]
    least = first.memory_bytes() + second.memory_bytes()
    assert least < resolution.credentials_memory_bytes() < least + 500
    assert ([*Resolution().issued()], Resolution().credentials_memory_bytes()) == ([], 0)
