"""What each event does: a setting with a default."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum

from authsvc.signals.event_types import LOGOUT, USER_EVENTS


class Action(StrEnum):
    """What an event about a user revokes."""

    SESSION = "session"
    """The tokens of the provider session that it names, and the user's tokens that name none; all
    of the user's where it names no session."""

    SUBJECT = "subject"
    """All tokens of the user."""

    NONE = "none"
    """Nothing: it is audited and counted."""


DEFAULT_ACTIONS: Mapping[str, Action] = {
    **dict.fromkeys(USER_EVENTS.values(), Action.NONE),
    LOGOUT: Action.SESSION,
    "session-revoked": Action.SESSION,
    **dict.fromkeys(
        (
            *("credential-change", "token-claims-change", "account-disabled", "account-purged"),
            *("account-credential-change-required", "credential-compromise"),
            *("identifier-recycled", "sessions-revoked", "tokens-revoked"),
        ),
        Action.SUBJECT,
    ),
}
"""By short name. An event that may mean that somebody else acts as the user, that the user may do
less than before, or that the user has left, ends access. What the others end is for a deployment to
decide.
"""


def actions_of(settings: Mapping[str, Action]) -> Mapping[str, Action]:
    """The action of each event about users.

    Args:
        settings: ``[signals.actions]``, by short name.

    Raises:
        ValueError: an event that is not known; the message names the nearest.
    """
    for name in settings:
        if name not in DEFAULT_ACTIONS:
            near = get_close_matches(name.lower().replace("_", "-"), DEFAULT_ACTIONS, n=1)
            hint = f"is it {near[0]}?" if near else f"these are: {', '.join(DEFAULT_ACTIONS)}"
            raise ValueError(f"{name!r} is no event; {hint}")
    return {**DEFAULT_ACTIONS, **settings}
