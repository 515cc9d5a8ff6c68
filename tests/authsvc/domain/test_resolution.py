"""Values of a resolution: secrets show their text to ``reveal`` alone."""

from __future__ import annotations

import pickle

import pytest

from authsvc.domain.resolution import Principal, Secret


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


@pytest.mark.parametrize("text", [b"[]", b"1", b"not json", b""])
def test_claims_that_are_none(text: bytes) -> None:
    principal = Principal("i", "s", 1.0, claims_json=text)
    with pytest.raises(ValueError, match=r"."):
        _ = principal.claims


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
