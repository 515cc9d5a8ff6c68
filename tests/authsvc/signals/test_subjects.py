"""Subject identifiers: those of the specifications, of older drafts, and odd ones."""

from __future__ import annotations

import pytest

from authsvc.signals.subjects import MAX_ALIASES, Subject, Token, User, subject_of

IDP = "https://idp.example/"
ALICE = {"format": "iss_sub", "iss": IDP, "sub": "alice"}
EMAIL = {"format": "email", "email": "alice@example.com"}
OPAQUE = {"format": "opaque", "id": "11112222333344445555"}
SESSION = {"format": "opaque", "id": "s1"}
USER = (User(IDP, "alice"),)
BY_EMAIL = (User("", "alice@example.com"),)


def read(*places: object, formats: tuple[str, ...] = ()) -> Subject:
    return subject_of(places, formats)


@pytest.mark.parametrize(
    "identifier",
    [
        ALICE,
        {"subject_type": "iss-sub", "iss": IDP, "sub": "alice"},
        {"subject_type": "iss_sub", "iss": IDP, "sub": "alice", "more": {}},
        {"subject_type": "id_token_claims", "iss": IDP, "sub": "alice", "email": "a@example.com"},
        {"format": "aliases", "identifiers": [EMAIL, ALICE, {"format": "phone_number"}, 7, ALICE]},
        {"user": ALICE},
        {"user": ALICE, "device": {"format": "opaque", "id": "d"}, "tenant": 7},
        {"format": "complex", "user": ALICE, "group": {"format": "opaque", "id": "g"}},
        {"subject_type": "complex", "user": {"format": "aliases", "identifiers": [ALICE]}},
        {"format": "complex", "user": ALICE, "session": {"format": "opaque", "id": 7}},
        {"format": "complex", "user": ALICE, "session": {"format": "opaque", "id": "s" * 1_025}},
        {"format": "complex", "user": ALICE, "session": {"format": "iss_sub", "id": "s1"}},
        {"format": "complex", "user": ALICE, "session": "s1"},
    ],
    ids=str,
)
def test_a_user(identifier: object) -> None:
    assert read(identifier) == Subject(USER)
    assert read(identifier).is_known


@pytest.mark.parametrize(
    ("identifier", "subject"),
    [
        ({"format": "complex", "user": ALICE, "session": SESSION}, Subject(USER, "s1")),
        ({"user": ALICE, "session": {"subject_type": "opaque", "id": "s1"}}, Subject(USER, "s1")),
        (
            {"format": "jwt_id", "iss": IDP, "jti": "B70BA622"},
            Subject(tokens=(Token(IDP, "B70BA622"),)),
        ),
        (
            {"subject_type": "jwt-id", "iss": IDP, "jti": "B70BA622"},
            Subject(tokens=(Token(IDP, "B70BA622"),)),
        ),
    ],
    ids=str,
)
def test_sessions_and_tokens(identifier: object, subject: Subject) -> None:
    assert read(identifier) == subject
    assert subject.is_known
    assert "s1" not in repr(subject)


def test_a_session_alone() -> None:
    for place in ({"session": SESSION}, {"format": "complex", "session": SESSION, "user": EMAIL}):
        subject = read(place)
        assert (subject.sid, subject.users, subject.is_known) == ("s1", (), True)
        assert bool(subject.fault) is ("user" in place)


@pytest.mark.parametrize(
    ("identifier", "users"),
    [
        (EMAIL, BY_EMAIL),
        ({"subject_type": "email", "email": "alice@example.com"}, BY_EMAIL),
        (OPAQUE, (User("", "11112222333344445555"),)),
        ({"format": "aliases", "identifiers": [EMAIL, ALICE]}, (*BY_EMAIL, *USER)),
        ({"format": "complex", "user": EMAIL}, BY_EMAIL),
    ],
    ids=str,
)
def test_a_value_is_a_subject_where_the_stream_says_so(
    identifier: dict[str, object], users: tuple[User, ...]
) -> None:
    assert read(identifier, formats=("email", "opaque")).users == users
    without = read(identifier)
    assert set(without.users) == set(users) - {users[0]}
    if not without.users:
        assert "subject_formats" in without.fault
    other = "opaque" if "email" in str(identifier) else "email"
    assert users[0] not in read(identifier, formats=(other,)).users


@pytest.mark.parametrize(
    ("identifier", "fault"),
    [
        ("alice", "is not an object"),
        (7, "is not an object"),
        ([ALICE], "is not an object"),
        ({}, "the format '' of its subject is unknown"),
        ({"iss": IDP, "sub": "alice"}, "the format '' of its subject is unknown"),
        ({**ALICE, "format": 7}, "the format '' of its subject is unknown"),
        ({**ALICE, "format": "ISS_SUB"}, "the format 'ISS_SUB'"),
        # The newer spelling counts where both are there.
        ({**ALICE, "format": "did", "subject_type": "iss-sub"}, "the format 'did'"),
        ({"format": "x" * 9_000}, f"the format '{'x' * 64}' of"),
        ({"format": "account", "uri": "acct:alice@example.com"}, "the format 'account'"),
        ({"subject_type": "oauth_token", "token": "t"}, "the format 'oauth_token'"),
        ({"format": "iss_sub", "iss": IDP}, "has not both iss and sub"),
        ({"format": "iss_sub", "iss": IDP, "sub": ""}, "has not both iss and sub"),
        ({"format": "iss_sub", "iss": IDP, "sub": 7}, "has not both iss and sub"),
        ({"format": "iss_sub", "iss": [IDP], "sub": "alice"}, "has not both iss and sub"),
        ({"format": "iss_sub", "iss": IDP, "sub": "a" * 256}, "has not both iss and sub"),
        ({"format": "jwt_id", "iss": IDP, "jti": None}, "has not both iss and jti"),
        ({"format": "jwt_id", "iss": IDP, "jti": "j" * 1_025}, "has not both iss and jti"),
        ({"format": "aliases", "identifiers": ALICE}, "are not a list"),
        ({"format": "aliases", "identifiers": []}, "are not a list"),
        ({"format": "aliases", "identifiers": [ALICE] * (MAX_ALIASES + 1)}, "are not a list"),
        ({"format": "aliases", "identifiers": [7, {}]}, "none of its aliases"),
        (
            {
                "format": "aliases",
                "identifiers": [{"format": "aliases", "identifiers": [ALICE]}, {"user": ALICE}],
            },
            "none of its aliases",
        ),
        ({"format": "complex"}, "names no user"),
        ({"format": "complex", "user": "alice", "device": ALICE}, "its user is no object"),
        ({"format": "complex", "user": {"format": "complex", "user": ALICE}}, "'complex'"),
        ({"format": "complex", "tenant": ALICE}, "names no user"),
    ],
    ids=lambda it: str(it)[:60],
)
def test_what_is_not_understood_names_nobody(identifier: object, fault: str) -> None:
    subject = read(identifier)
    assert not subject.is_known
    assert fault in subject.fault


def test_empty_values_name_nobody() -> None:
    formats = ("email", "opaque")
    assert "has no email" in read({"format": "email"}, formats=formats).fault
    assert "has no id" in read({"format": "opaque", "id": ""}, formats=formats).fault


def test_the_first_place_that_names_anything_counts() -> None:
    bob = {**ALICE, "sub": "bob"}
    assert read(ALICE, bob) == Subject(USER)
    assert read(None, ALICE) == Subject(USER)
    for odd in (EMAIL, {}, "x", {"format": "did", "url": "did:example:1"}):
        assert read(odd, ALICE) == Subject(USER)
    assert read(EMAIL, {}).fault == read(EMAIL).fault
    assert read(None, None).fault == read().fault == "it names no subject"
