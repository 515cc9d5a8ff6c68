"""What each action revokes, for each subject that a stream may name."""

from __future__ import annotations

import pytest

from authsvc.domain.revocation_target import ProviderSessionTarget, SubjectTarget, TokenTarget
from authsvc.signals.actions import Action
from authsvc.signals.subjects import Subject, Token, User
from authsvc.signals.targets import Target, targets_of
from tests.support.signals import Sender
from tests.support.tokens import ISSUER

API = f"{ISSUER}/oauth2/default"
OTHER = "https://other.example"
ALICE = (User(ISSUER, "alice"),)
BOTH = (ISSUER, API)


@pytest.mark.parametrize(
    ("subject", "session", "all_tokens"),
    [
        (Subject(ALICE), [SubjectTarget(ISSUER, "alice")], [SubjectTarget(ISSUER, "alice")]),
        (
            Subject(ALICE, "s1"),
            [ProviderSessionTarget(ISSUER, "s1", "alice")],
            [SubjectTarget(ISSUER, "alice")],
        ),
        # Who it is is not known: no more can be revoked.
        (
            Subject(sid="s1"),
            [ProviderSessionTarget(ISSUER, "s1")],
            [ProviderSessionTarget(ISSUER, "s1")],
        ),
        (
            Subject(tokens=(Token(ISSUER, "j1"),)),
            [TokenTarget(ISSUER, "j1")],
            [TokenTarget(ISSUER, "j1")],
        ),
        (Subject((User(OTHER, "alice"),)), [], []),
        (Subject((User(OTHER, "alice"),), "s1"), [], []),
        (Subject(tokens=(Token(OTHER, "j1"),)), [], []),
        (Subject(), [], []),
        (
            Subject((User("", "alice"), User(OTHER, "alice"), *ALICE), "s1"),
            [ProviderSessionTarget(ISSUER, "s1", "alice")],
            [SubjectTarget(ISSUER, "alice")],
        ),
    ],
    ids=str,
)
def test_targets(subject: Subject, session: list[Target], all_tokens: list[Target]) -> None:
    stream = Sender().stream()
    assert list(targets_of(Action.SESSION, subject, stream)) == session
    assert list(targets_of(Action.SUBJECT, subject, stream)) == all_tokens
    assert targets_of(Action.NONE, subject, stream) == ()


@pytest.mark.parametrize(
    ("applies_to", "named", "issuers"),
    [
        ((API,), ISSUER, (API,)),
        ((API,), "", (API,)),
        ((API,), API, (API,)),
        ((API,), f"{API}/", ()),
        (BOTH, ISSUER, BOTH),
        (BOTH, "", BOTH),
        (BOTH, API, (API,)),
        ((API,), OTHER, ()),
        ((OTHER,), OTHER, (OTHER,)),
    ],
)
def test_the_issuers_of_the_tokens(
    applies_to: tuple[str, ...], named: str, issuers: tuple[str, ...]
) -> None:
    """Okta signs SETs as its organisation, and access tokens as an authorization server of it."""
    stream = Sender().stream(applies_to=applies_to)
    assert stream.issuers_of(named) == issuers
    found = targets_of(Action.SUBJECT, Subject((User(named, "alice"),)), stream)
    assert found == tuple(SubjectTarget(issuer, "alice") for issuer in issuers)
    found = targets_of(Action.SESSION, Subject(sid="s1"), stream)
    assert found == tuple(ProviderSessionTarget(issuer, "s1") for issuer in applies_to)
