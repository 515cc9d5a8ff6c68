"""The digest of a provider session."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest, shown_digest


def test_the_digest_is_of_the_issuer_and_the_session() -> None:
    digest = session_digest("https://idp.example", "08a5019c-17e1-4977-8f42-65a12843ea02")
    assert digest == "Ucf1lBoxTv3YEdOlCAYbn7rE_DtFaLPsAN5725O1hRs"
    assert shown_digest(digest) == digest[:8]


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_digests_are_equal_where_both_names_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (session_digest(*one) == session_digest(*other)) is (one == other)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", session_digest(*one))
    assert session_digest(*one) != NO_PROVIDER_SESSION


def test_names_whose_concatenation_is_equal_are_distinct() -> None:
    assert session_digest("a", "bc") != session_digest("ab", "c")
    assert session_digest('a","', "b") != session_digest("a", '","b')
