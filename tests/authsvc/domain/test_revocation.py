"""Not-befores and the tokens that they revoke."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest
from authsvc.domain.record import Record
from authsvc.domain.resolution import Principal
from authsvc.domain.revocation import (
    END_OF_TIME,
    EVERYONE,
    NotBefore,
    NotBefores,
    grant_keys,
    not_before_keys,
)
from authsvc.domain.tokens import VerifiedToken


def token(
    issue_time: float = 100.0,
    *,
    issuer: str = "idp",
    subject: str = "alice",
    token_id: str = "j1",
    sid: str = "",
) -> VerifiedToken:
    session = session_digest(issuer, sid) if sid else ""
    return VerifiedToken(b"d" * 32, Principal(issuer, subject, 1e9), issue_time, token_id, session)


def in_force(*not_befores: NotBefore) -> NotBefores:
    them = NotBefores()
    for not_before in not_befores:
        them.add(not_before)
    return them


OF_ALICE = NotBefore(100.0, 150.0, issuer="idp", subject="alice")
OF_J1 = NotBefore(END_OF_TIME, 150.0, issuer="idp", token_id="j1")
OF_EVERYONE = NotBefore(100.0, 150.0)
OF_SESSION = NotBefore(100.0, 150.0, "idp", provider_session=session_digest("idp", "s1"))
OF_NO_SESSION = NotBefore(100.0, 150.0, "idp", "alice", provider_session=NO_PROVIDER_SESSION)


@pytest.mark.parametrize("not_before", [OF_ALICE, OF_EVERYONE], ids=["subject", "everyone"])
def test_tokens_issued_up_to_the_time_are_rejected(not_before: NotBefore) -> None:
    not_befores = in_force(not_before)
    assert not_befores.reject(token(99.0))
    assert not_befores.reject(token(100.0))
    assert not not_befores.reject(token(100.000001))


def test_no_token_is_rejected_without_a_not_before() -> None:
    assert not NotBefores().reject(token())
    assert not NotBefores().reject(token(0.0))


@pytest.mark.parametrize(
    "other",
    [
        token(subject="bob"),
        token(subject="Alice"),
        token(subject=""),
        token(issuer="else"),
        # The same text when joined, and one name in the place of the other.
        token(issuer="idpa", subject="lice"),
        token(subject="j1", token_id="alice"),
    ],
)
def test_a_subject_is_one_of_one_issuer(other: VerifiedToken) -> None:
    assert not in_force(OF_ALICE).reject(other)


@pytest.mark.parametrize(
    ("presented", "rejected"),
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
def test_a_token_is_revoked_by_its_id_and_issuer(presented: VerifiedToken, rejected: bool) -> None:
    assert in_force(OF_J1).reject(presented) is rejected


@pytest.mark.parametrize(
    ("presented", "rejected"),
    [
        (token(sid="s1"), True),
        (token(sid="s1", subject="bob"), True),  # a sid is of one user; what it says is trusted
        (token(100.000001, sid="s1"), False),
        (token(sid="s2"), False),
        (token(), False),
        (token(issuer="else", sid="s1"), False),
        (token(token_id=session_digest("idp", "s1")), False),
        (token(subject=session_digest("idp", "s1")), False),
    ],
)
def test_a_provider_session_is_one_of_one_issuer(presented: VerifiedToken, rejected: bool) -> None:
    assert in_force(OF_SESSION).reject(presented) is rejected


@pytest.mark.parametrize(
    ("presented", "rejected"),
    [
        (token(), True),
        (token(100.000001), False),
        (token(sid="s1"), False),
        (token(sid=NO_PROVIDER_SESSION), False),
        (token(subject="bob"), False),
        (token(issuer="else"), False),
        (token(token_id=NO_PROVIDER_SESSION, sid="s1"), False),
    ],
)
def test_tokens_of_a_subject_without_a_provider_session(
    presented: VerifiedToken, rejected: bool
) -> None:
    assert in_force(OF_NO_SESSION).reject(presented) is rejected


def test_a_token_without_iat_is_rejected_by_any_not_before_with_its_key() -> None:
    for not_before in (OF_ALICE, OF_J1, OF_EVERYONE, OF_NO_SESSION):
        assert in_force(not_before).reject(token(0.0))
    assert in_force(OF_SESSION).reject(token(0.0, sid="s1"))


def test_of_two_not_befores_the_later_one_is_kept() -> None:
    earlier = NotBefore(50.0, 200.0, issuer="idp", subject="alice")
    for order in ((OF_ALICE, earlier), (earlier, OF_ALICE)):
        assert list(in_force(*order)) == [OF_ALICE]
    everyone = in_force(OF_EVERYONE, NotBefore(50.0, 200.0))
    assert everyone.reject(token(100.0))


def test_a_not_before_is_dropped_by_when_it_was_set() -> None:
    not_befores = in_force(
        OF_ALICE, NotBefore(100.0, 160.0, issuer="idp", subject="bob"), NotBefore(100.0, 140.0)
    )
    not_befores.drop(150.0)
    assert {not_before.key for not_before in not_befores} == {OF_ALICE.key, ("idp", "bob", "", "")}
    # The one of everyone is dropped with its time.
    assert not not_befores.reject(token(subject="carol"))
    not_befores.drop(1e9)
    assert len(not_befores) == 0
    assert not not_befores.reject(token())


_NAMES = st.sampled_from(["", "a", "b"])
_TIMES = st.floats(min_value=0, max_value=10)
_TOKENS = st.builds(
    lambda time, issuer, subject, token_id, sid: token(
        time, issuer=issuer, subject=subject, token_id=token_id, sid=sid
    ),
    _TIMES,
    _NAMES.filter(bool),
    _NAMES.filter(bool),
    _NAMES,
    _NAMES,
)
_NOT_BEFORES = st.one_of(
    st.builds(NotBefore, _TIMES, _TIMES),
    st.builds(NotBefore, _TIMES, _TIMES, issuer=_NAMES.filter(bool), subject=_NAMES.filter(bool)),
    st.builds(NotBefore, _TIMES, _TIMES, issuer=_NAMES.filter(bool), token_id=_NAMES.filter(bool)),
    st.builds(
        lambda time, set_time, issuer, sid: NotBefore(
            time, set_time, issuer, provider_session=session_digest(issuer, sid)
        ),
        _TIMES,
        _TIMES,
        _NAMES.filter(bool),
        _NAMES.filter(bool),
    ),
    st.builds(
        NotBefore,
        _TIMES,
        _TIMES,
        issuer=_NAMES.filter(bool),
        subject=_NAMES.filter(bool),
        provider_session=st.just(NO_PROVIDER_SESSION),
    ),
)


@given(st.lists(_NOT_BEFORES, max_size=8), _TOKENS)
def test_a_token_is_rejected_by_each_not_before_with_its_key(
    not_befores: list[NotBefore], presented: VerifiedToken
) -> None:
    who = presented.principal

    def is_its_own(not_before: NotBefore) -> bool:
        if not_before.key == EVERYONE:
            return True
        if not_before.issuer != who.issuer:
            return False
        if not_before.subject:
            concerns = not not_before.provider_session or not presented.provider_session
            return not_before.subject == who.subject and concerns
        if not_before.provider_session:
            return not_before.provider_session == presented.provider_session
        return not_before.token_id == presented.token_id

    expected = any(is_its_own(it) and presented.issue_time <= it.time for it in not_befores)
    assert in_force(*not_befores).reject(presented) is expected
    # The not-befores with the token's own keys are enough for the same verdict.
    keys = not_before_keys(presented)
    assert in_force(*(it for it in not_befores if it.key in keys)).reject(presented) is expected
    # As well as by what a record keeps of the token.
    grant = presented.grant()
    record = Record("s", 1, 0.0, 0.0, 1.0, who.issuer, who.subject, {"r": grant})
    assert in_force(*not_befores).reject_grant(record, grant) is expected
    assert grant_keys(record, grant) == keys
