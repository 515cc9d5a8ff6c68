"""Event types: the URIs of the specifications, and the short names that settings, logs and metrics
have for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
"""OpenID Connect Back-Channel Logout 1.0 section 2.4."""

_EVENTS = "https://schemas.openid.net/secevent"

LOGOUT = "logout"
VERIFICATION = "verification"
STREAM_UPDATED = "stream-updated"

OTHER = "other"
"""The short name of every event type that is not known here: metrics have few labels."""


def _uris(family: str, names: Iterable[str]) -> Mapping[str, str]:
    return {f"{_EVENTS}/{family}/event-type/{name}": name for name in names}


CAEP_EVENTS = _uris(
    "caep",
    (
        *("session-revoked", "token-claims-change", "credential-change"),
        *("assurance-level-change", "device-compliance-change", "session-established"),
        *("session-presented", "risk-level-change"),
    ),
)
"""OpenID CAEP 1.0 section 3."""

RISC_EVENTS = _uris(
    "risc",
    (
        *("account-credential-change-required", "account-purged", "account-disabled"),
        *("account-enabled", "identifier-changed", "identifier-recycled"),
        *("credential-compromise", "opt-in", "opt-out-initiated", "opt-out-cancelled"),
        *("opt-out-effective", "recovery-activated", "recovery-information-changed"),
        "sessions-revoked",
    ),
)
"""OpenID RISC 1.0 section 2."""

OAUTH_EVENTS = _uris("oauth", ("tokens-revoked", "token-revoked"))
"""Google's Cross-Account Protection sends them."""

STREAM_EVENTS = {
    **_uris("ssf", (VERIFICATION, STREAM_UPDATED)),
    # Of drafts, which senders still follow.
    **_uris("sse", (VERIFICATION, STREAM_UPDATED)),
    **_uris("risc", (VERIFICATION,)),
}
"""OpenID Shared Signals Framework 1.0 section 8.1: about the stream itself, and no user."""

USER_EVENTS = {LOGOUT_EVENT: LOGOUT, **CAEP_EVENTS, **RISC_EVENTS, **OAUTH_EVENTS}
"""Short names of the events about users, by URI. Each name is there once."""

_NAMES = {**USER_EVENTS, **STREAM_EVENTS}


def short_name(event_type: str) -> str:
    """The short name of an event type, which is compared exactly; ``OTHER`` where it has none."""
    return _NAMES.get(event_type, OTHER)
