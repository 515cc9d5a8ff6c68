"""Security event tokens (SETs, RFC 8417), as the Shared Signals Framework profiles them."""

from __future__ import annotations

from collections.abc import Mapping

from authsvc.signals.errors import invalid_request
from authsvc.signals.event_types import LOGOUT_EVENT, short_name
from authsvc.signals.signals import Signal, SignalToken
from authsvc.signals.subjects import subject_of
from authsvc.signals.verification import (
    CLOCK_MARGIN_SECONDS,
    SignatureVerifier,
    SignedClaims,
    event_time,
    issue_time,
    message_key,
)

MAX_EVENTS = 16
"""Events of one token. Profiles have one."""


async def verify_set(verifier: SignatureVerifier, text: str, now: float) -> SignalToken:
    """The events of a security event token, once it is verified.

    Args:
        verifier: says who signed it, and for whom.
        text: the bare token.
        now: seconds since the epoch.

    Raises:
        SignalError: it is rejected.
        AuthError: KEYS_UNAVAILABLE: the keys are unavailable, so that it may be valid.
    """
    signed = await verifier.verify(
        text, lambda stream: stream.set_types, now, types_setting="accepted_types"
    )
    stream, claims = signed.stream, signed.claims
    if claims.get("sub") is not None:
        # Access tokens and ID tokens have it (SSF 1.0 section 4.1.1).
        raise invalid_request("Claim sub is present: this is no security event token.")
    events = _events(claims)
    issued = issue_time(claims, stream, now, max_age_seconds=stream.max_age_seconds)
    latest = now + stream.leeway_seconds
    return SignalToken(
        stream=stream,
        token_id=signed.token_id,
        key=message_key("set", stream.issuer, signed.token_id),
        until=issued + stream.max_age_seconds + stream.leeway_seconds + CLOCK_MARGIN_SECONDS,
        signals=tuple(_signal(signed, *event, issued, latest) for event in events.items()),
    )


def _events(claims: Mapping[str, object]) -> dict[str, object]:
    """Claim ``events`` (RFC 8417 section 2.2).

    Raises:
        SignalError: it has no events, or too many; or it makes the token a logout token, which is
            to be verified as one.
    """
    events = claims.get("events")
    if not isinstance(events, dict) or not 0 < len(events) <= MAX_EVENTS:
        raise invalid_request(f"Claim events is not an object of 1 to {MAX_EVENTS} events.")
    if LOGOUT_EVENT in events:
        raise invalid_request("This is a logout token, which is sent to another endpoint.")
    return events


def _signal(
    signed: SignedClaims, event_type: str, event: object, issued: float, latest: float
) -> Signal:
    """One event. Its members may be of any type; one that is no object has none, and the token
    itself may still say who it is about."""
    claims = signed.claims
    members = event if isinstance(event, dict) else {}
    times = members.get("event_timestamp"), claims.get("toe")
    places = claims.get("sub_id"), members.get("subject")
    return Signal(
        event_type=event_type,
        name=short_name(event_type),
        subject=subject_of(places, signed.stream.subject_formats),
        time=event_time(times, issued, latest),
        event=members,
    )
