"""The Authorization header read, the challenge written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.net.bearer import AmbiguousCredentialsError, Challenge, presented_token

METADATA = "https://mcp.example/.well-known/oauth-protected-resource/mcp"

WELL_FORMED = re.compile(r'Bearer \w+="[^"\\]*"(, \w+="[^"\\]*")*')


@pytest.mark.parametrize(
    "value",
    ["Bearer abc", "bearer abc", "BEARER abc", "  Bearer \t  abc \t ", "Bearer\tabc"],
)
def test_spellings_of_one_token(value: str) -> None:
    assert presented_token([value]) == "abc"


@pytest.mark.parametrize(
    "value", ["", " ", "Bearer", "Bearer \t ", "Basic abc", "Bearerabc", "abc"]
)
def test_no_token(value: str) -> None:
    assert presented_token([value]) == ""


def test_no_header_is_no_token() -> None:
    assert presented_token([]) == ""


def test_two_headers_are_refused_even_when_equal() -> None:
    with pytest.raises(AmbiguousCredentialsError):
        presented_token(["Bearer abc", "Bearer abc"])


def test_what_is_no_ascii_white_space_belongs_to_the_token() -> None:
    assert presented_token(["Bearer \xa0abc\x85"]) == "\xa0abc\x85"


def test_parts_that_say_nothing_are_left_out() -> None:
    assert Challenge().header(METADATA) == f'Bearer resource_metadata="{METADATA}"'


@given(st.text(), st.lists(st.text()), st.text())
def test_nothing_breaks_out_of_a_challenge(error: str, scopes: list[str], description: str) -> None:
    header = Challenge(tuple(scopes), error, description).header(METADATA)

    assert WELL_FORMED.fullmatch(header)
    assert header.isascii()
    assert header.isprintable()
