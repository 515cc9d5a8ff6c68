"""One spelling for each bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.buckets import bucket_name, bucket_names


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


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ((), ()),
        (("a", "b", "a"), ("a", "b")),
        (("a", "s3://a/path", " b "), ("a", "b")),
    ],
)
def test_buckets_are_listed_once(texts: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert bucket_names(texts) == names


def test_a_line_end_separates_no_buckets() -> None:
    with pytest.raises(ValueError, match="bucket"):
        bucket_names(("a\nb", "c"))


@given(st.lists(st.text(alphabet="ab/ \n\té:s3", min_size=1), max_size=4))
def test_a_list_is_read_as_each_text_of_it_is(texts: list[str]) -> None:
    try:
        expected = tuple(dict.fromkeys(map(bucket_name, texts)))
    except ValueError:
        with pytest.raises(ValueError, match="bucket"):
            bucket_names(texts)
    else:
        assert bucket_names(texts) == expected
