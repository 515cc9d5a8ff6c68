"""Tokens as presented: one digest, and no text in a repr."""

from __future__ import annotations

from hashlib import sha256

from authsvc.domain.tokens import BearerToken


def test_the_digest_is_that_of_the_bytes() -> None:
    token = BearerToken("one.two.three")
    assert token.digest == sha256(b"one.two.three").digest()
    assert token.digest is token.digest  # computed once


def test_text_that_is_not_utf_8_has_a_digest() -> None:
    assert BearerToken("\ud800").digest == sha256(b"\xed\xa0\x80").digest()


def test_no_repr_shows_the_token() -> None:
    assert "secret" not in repr(BearerToken("secret"))
    assert "secret" not in repr([BearerToken("secret")])
