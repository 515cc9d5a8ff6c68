"""Cut-offs, in themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.resolution import Principal
from authsvc.domain.revocation import END_OF_TIME, EVERYONE, Cutoff, Cutoffs, cutoff_keys
from authsvc.domain.sessions import VerifiedToken


def token(
    issue_time: float = 100.0, *, issuer: str = "idp", subject: str = "alice", token_id: str = "j1"
) -> VerifiedToken:
    return VerifiedToken(b"d" * 32, Principal(issuer, subject, 1e9), issue_time, token_id)


def in_force(*cutoffs: Cutoff) -> Cutoffs:
    them = Cutoffs()
    for cutoff in cutoffs:
        them.add(cutoff)
    return them


OF_ALICE = Cutoff(100.0, 150.0, issuer="idp", subject="alice")
OF_J1 = Cutoff(END_OF_TIME, 150.0, issuer="idp", token_id="j1")
OF_EVERYONE = Cutoff(100.0, 150.0)


@pytest.mark.parametrize("cutoff", [OF_ALICE, OF_EVERYONE], ids=["subject", "everyone"])
def test_tokens_issued_up_to_the_time_are_refused(cutoff: Cutoff) -> None:
    cutoffs = in_force(cutoff)
    assert cutoffs.refuse(token(99.0))
    assert cutoffs.refuse(token(100.0))
    assert not cutoffs.refuse(token(100.000001))


def test_nobody_is_refused_without_a_cutoff() -> None:
    assert not Cutoffs().refuse(token())
    assert not Cutoffs().refuse(token(0.0))


@pytest.mark.parametrize(
    "other",
    [
        token(subject="bob"),
        token(subject="Alice"),
        token(subject=""),
        token(issuer="else"),
        # Names that run together, and one in the other's place.
        token(issuer="idpa", subject="lice"),
        token(subject="j1", token_id="alice"),
    ],
)
def test_a_subject_is_one_of_one_issuer(other: VerifiedToken) -> None:
    assert not in_force(OF_ALICE).refuse(other)


@pytest.mark.parametrize(
    ("presented", "refused"),
    [
        (token(), True),
        (token(subject="bob"), True),
        (token(9e9), True),
        (token(token_id="j2"), False),
        (token(token_id=""), False),
        (token(issuer="else"), False),
        (token(subject="j1", token_id="alice"), False),
    ],
)
def test_a_token_is_revoked_by_its_id_and_issuer(presented: VerifiedToken, refused: bool) -> None:
    assert in_force(OF_J1).refuse(presented) is refused


def test_a_token_without_iat_is_refused_by_any_cutoff_of_its_own() -> None:
    for cutoff in (OF_ALICE, OF_J1, OF_EVERYONE):
        assert in_force(cutoff).refuse(token(0.0))


def test_the_later_of_two_holds() -> None:
    earlier = Cutoff(50.0, 200.0, issuer="idp", subject="alice")
    for order in ((OF_ALICE, earlier), (earlier, OF_ALICE)):
        assert list(in_force(*order)) == [OF_ALICE]
    everyone = in_force(OF_EVERYONE, Cutoff(50.0, 200.0))
    assert everyone.refuse(token(100.0))


def test_a_cutoff_is_forgotten_by_when_it_was_set() -> None:
    cutoffs = in_force(
        OF_ALICE, Cutoff(100.0, 160.0, issuer="idp", subject="bob"), Cutoff(100.0, 140.0)
    )
    cutoffs.forget(150.0)
    assert {cutoff.key for cutoff in cutoffs} == {OF_ALICE.key, ("idp", "bob", "")}
    # The one of everyone went with its time.
    assert not cutoffs.refuse(token(subject="carol"))
    cutoffs.forget(1e9)
    assert len(cutoffs) == 0
    assert not cutoffs.refuse(token())


_NAMES = st.sampled_from(["", "a", "b"])
_TIMES = st.floats(min_value=0, max_value=10)
_TOKENS = st.builds(
    lambda time, issuer, subject, token_id: token(
        time, issuer=issuer, subject=subject, token_id=token_id
    ),
    _TIMES,
    _NAMES.filter(bool),
    _NAMES.filter(bool),
    _NAMES,
)
_CUTOFFS = st.one_of(
    st.builds(Cutoff, _TIMES, _TIMES),
    st.builds(Cutoff, _TIMES, _TIMES, issuer=_NAMES.filter(bool), subject=_NAMES.filter(bool)),
    st.builds(Cutoff, _TIMES, _TIMES, issuer=_NAMES.filter(bool), token_id=_NAMES.filter(bool)),
)


@given(st.lists(_CUTOFFS, max_size=8), _TOKENS)
def test_a_token_is_refused_by_each_cutoff_that_is_its_own(
    cutoffs: list[Cutoff], presented: VerifiedToken
) -> None:
    who = presented.principal

    def is_its_own(cutoff: Cutoff) -> bool:
        if cutoff.key == EVERYONE:
            return True
        if cutoff.issuer != who.issuer:
            return False
        if cutoff.subject:
            return cutoff.subject == who.subject
        return cutoff.token_id == presented.token_id

    expected = any(is_its_own(it) and presented.issue_time <= it.time for it in cutoffs)
    assert in_force(*cutoffs).refuse(presented) is expected
    # Whoever asks a store for the token's own alone decides alike.
    keys = cutoff_keys(presented)
    assert in_force(*(it for it in cutoffs if it.key in keys)).refuse(presented) is expected
