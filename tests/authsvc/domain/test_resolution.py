"""Values of a resolution: secrets show their text to ``reveal`` alone."""

from __future__ import annotations

import pickle

import pytest

from authsvc.domain.resolution import Secret


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
