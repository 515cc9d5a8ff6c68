"""One spelling for each bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.buckets import bucket_name


@pytest.mark.parametrize(
    "text", ["one", "s3://one", "s3://one/", "s3://one/a/b", "one/a", " one ", "\ts3://one/a b\n"]
)
def test_spellings_of_one_bucket(text: str) -> None:
    assert bucket_name(text) == "one"


@pytest.mark.parametrize("text", ["", " ", "s3://", "s3:///a", "/a", "a b", "a\x00", "b\u00fccket"])
def test_texts_that_name_no_bucket(text: str) -> None:
    with pytest.raises(ValueError, match="not the name of a bucket"):
        bucket_name(text)


@given(st.text() | st.text().map("s3://".__add__))
def test_a_name_holds_nothing_that_could_end_it(text: str) -> None:
    try:
        name = bucket_name(text)
    except ValueError:
        return
    assert name
    assert "/" not in name
    assert not any(character.isspace() for character in name)
