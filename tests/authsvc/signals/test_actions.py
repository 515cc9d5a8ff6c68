"""Event types by their short names, and what each does."""

from __future__ import annotations

import pytest

from authsvc.signals.actions import DEFAULT_ACTIONS, Action, actions_of
from authsvc.signals.event_types import (
    CAEP_EVENTS,
    LOGOUT_EVENT,
    OAUTH_EVENTS,
    OTHER,
    RISC_EVENTS,
    USER_EVENTS,
    short_name,
)

ENDS_ACCESS = {
    **dict.fromkeys(("logout", "session-revoked"), Action.SESSION),
    **dict.fromkeys(
        (
            *("credential-change", "token-claims-change", "account-disabled", "account-purged"),
            *("account-credential-change-required", "credential-compromise"),
            *("identifier-recycled", "sessions-revoked", "tokens-revoked"),
        ),
        Action.SUBJECT,
    ),
}
EVENTS = "https://schemas.openid.net/secevent"


@pytest.mark.parametrize(
    ("event_type", "name"),
    [
        ("http://schemas.openid.net/event/backchannel-logout", "logout"),
        (f"{EVENTS}/caep/event-type/session-revoked", "session-revoked"),
        (f"{EVENTS}/caep/event-type/risk-level-change", "risk-level-change"),
        (f"{EVENTS}/risc/event-type/account-disabled", "account-disabled"),
        (f"{EVENTS}/risc/event-type/sessions-revoked", "sessions-revoked"),
        (f"{EVENTS}/risc/event-type/verification", "verification"),
        (f"{EVENTS}/ssf/event-type/verification", "verification"),
        (f"{EVENTS}/ssf/event-type/stream-updated", "stream-updated"),
        (f"{EVENTS}/oauth/event-type/tokens-revoked", "tokens-revoked"),
        (f"{EVENTS}/caep/event-type/session-revoked/", OTHER),
        (f"{EVENTS}/caep/event-type/Session-Revoked", OTHER),
        (f"{EVENTS}/caep/event-type/account-disabled", OTHER),
        ("session-revoked", OTHER),
        ("", OTHER),
        ("https://elsewhere.example/caep/event-type/session-revoked", OTHER),
    ],
)
def test_an_event_type_is_compared_exactly(event_type: str, name: str) -> None:
    assert short_name(event_type) == name


def test_a_short_name_is_that_of_one_event() -> None:
    assert len(set(USER_EVENTS.values())) == len(USER_EVENTS)
    assert len(USER_EVENTS) == len(CAEP_EVENTS) + len(RISC_EVENTS) + len(OAUTH_EVENTS) + 1
    assert USER_EVENTS[LOGOUT_EVENT] == "logout"


def test_the_defaults() -> None:
    assert {name: it for name, it in DEFAULT_ACTIONS.items() if it is not Action.NONE} == (
        ENDS_ACCESS
    )
    assert set(DEFAULT_ACTIONS) == set(USER_EVENTS.values())


def test_a_setting_replaces_one_default() -> None:
    actions = actions_of({"session-revoked": Action.SUBJECT, "risk-level-change": Action.SUBJECT})
    changed = {name: it for name, it in actions.items() if DEFAULT_ACTIONS[name] is not it}
    assert changed == dict.fromkeys(("session-revoked", "risk-level-change"), Action.SUBJECT)
    assert actions_of({}) == DEFAULT_ACTIONS


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sesion-revoked", "is it session-revoked?"),
        ("Account_Disabled", "is it account-disabled?"),
        ("nothing like it", "these are: logout, session-revoked,"),
        # About the stream, and not about a user.
        ("stream-updated", "these are: "),
    ],
)
def test_an_unknown_event_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is no event") as caught:
        actions_of({name: Action.NONE})
    assert hint in str(caught.value)
