"""The key of a gateway's request in the response cache: it has all that the response depends on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.gateways.caller_resolver import Issued, request_digest

REQUESTS = st.builds(
    CredentialRequest,
    st.sampled_from(["", "a", "b"]),
    st.lists(st.sampled_from(["x", "y", "x', 'y"]), max_size=2).map(tuple),
    st.sampled_from([b"", bytes(32)]),
)
ISSUED = st.builds(
    Issued.of,
    st.none() | REQUESTS,
    st.none() | st.lists(REQUESTS, max_size=2),
)
QUESTIONS = st.tuples(
    st.sampled_from(["", "s", "s3"]),
    st.sampled_from([bytes(32), bytes(31) + b"1"]),
    st.sampled_from(["https://a", "https://b"]),
    st.booleans(),
    ISSUED,
)


def digest(question: tuple[str, bytes, str, bool, Issued]) -> bytes:
    session_id, token, resource, create, issued = question
    return request_digest(session_id, token, resource, create=create, issued=issued)


def asked(question: tuple[str, bytes, str, bool, Issued]) -> tuple[object, ...]:
    """The question, as far as the response depends on it."""
    issued = question[-1]
    wanted = issued.wanted if issued.selection is None else DEFAULT
    return *question[:-1], issued.selection, wanted


@given(QUESTIONS, QUESTIONS)
def test_two_questions_have_two_digests(
    one: tuple[str, bytes, str, bool, Issued], other: tuple[str, bytes, str, bool, Issued]
) -> None:
    assert (digest(one) == digest(other)) == (asked(one) == asked(other))


def test_a_selection_of_a_request_takes_the_place_of_the_routes() -> None:
    issued = Issued.of(CredentialRequest("a"))
    assert issued.asked(None) is issued
    for selection in ((), (CredentialRequest("b"),)):
        assert issued.asked(selection).selection == selection
    kinds = [None, DEFAULT, CredentialRequest("a")]
    digests = {digest(("s", bytes(32), "https://a", False, Issued.of(it))) for it in kinds}
    assert len(digests) == len(kinds)
