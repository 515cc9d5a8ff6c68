"""Logout tokens (OpenID Connect Back-Channel Logout 1.0 sections 2.4 and 2.6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from authsvc.signals.errors import invalid_request
from authsvc.signals.event_types import LOGOUT, LOGOUT_EVENT
from authsvc.signals.signals import Signal, SignalToken, Stream
from authsvc.signals.subjects import Subject, User
from authsvc.signals.verification import (
    CLOCK_MARGIN_SECONDS,
    SignatureVerifier,
    issue_time,
    message_key,
)
from authsvc.tokens.values import MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH

LOGOUT_TYPES = ("logout+jwt", "jwt", "")
"""Accepted header ``typ``. The first is recommended, and providers of before send the others."""

MAX_AGE_SECONDS_WITHOUT_EXP = 600.0
"""How long ago a token without ``exp`` may have been issued: version 1.0 requires that claim, and
drafts did not."""


async def verify_logout(verifier: SignatureVerifier, text: str, now: float) -> SignalToken:
    """The sign-out of a logout token, once it is verified.

    Args:
        verifier: says who signed it, and for whom.
        text: the bare token.
        now: seconds since the epoch.

    Raises:
        SignalError: it is rejected.
        AuthError: KEYS_UNAVAILABLE: the keys are unavailable, so that it may be valid.
    """
    signed = await verifier.verify(text, _accepted_types, now)
    stream, claims = signed.stream, signed.claims
    event = _event(claims)
    if "nonce" in claims:
        raise invalid_request("Claim nonce is present: this is no logout token.")
    subject = _subject(claims, stream)
    # Whatever its ``exp``, it is accepted for no longer than other signals.
    ages = [stream.max_age_seconds]
    if claims.get("exp") is None:
        ages.append(MAX_AGE_SECONDS_WITHOUT_EXP)
    issued = issue_time(claims, stream, now, max_age_seconds=min(ages))
    return SignalToken(
        stream=stream,
        token_id=signed.token_id,
        key=message_key("logout", stream.issuer, signed.token_id),
        until=issued + min(ages) + stream.leeway_seconds + CLOCK_MARGIN_SECONDS,
        signals=(Signal(LOGOUT_EVENT, LOGOUT, subject, issued, event),),
    )


def _accepted_types(_: Stream) -> Collection[str]:
    return LOGOUT_TYPES


def _event(claims: Mapping[str, object]) -> dict[str, object]:
    """The event that makes a token a logout token. Keycloak has other members beside it.

    Raises:
        SignalError: it is not there.
    """
    events = claims.get("events")
    event = events.get(LOGOUT_EVENT) if isinstance(events, dict) else None
    if not isinstance(event, dict):
        raise invalid_request("Claim events has no logout event: this is no logout token.")
    return event


def _subject(claims: Mapping[str, object], stream: Stream) -> Subject:
    """Who has signed out: the user, the session or both.

    Raises:
        SignalError: neither is named, or one is not as claims of tokens are.
    """
    subject = _optional_text(claims, "sub", MAX_SUBJECT_LENGTH)
    sid = _optional_text(claims, "sid", MAX_TEXT_LENGTH)
    if not subject and not sid:
        raise invalid_request("The token has neither sub nor sid.")
    return Subject((User(stream.issuer, subject),) if subject else (), sid)


def _optional_text(claims: Mapping[str, object], name: str, most: int) -> str:
    text = claims.get(name)
    if text is None:
        return ""
    if not isinstance(text, str) or not 0 < len(text) <= most:
        raise invalid_request(f"Claim {name} is not a string of 1 to {most} characters.")
    return text
