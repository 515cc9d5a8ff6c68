"""What an operator revokes: read from a form, and put into words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import assert_never
from urllib.parse import urlencode

from authsvc.client.admin import Revoked
from authsvc.common.times import parse
from authsvc.domain.resolution import shown
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)

MAX_TEXT_LENGTH = 2_048
"""Characters of an issuer, a subject or a token's id, as authsvc has it."""

EVERYONE_WORD = "everyone"
"""To be typed by whoever revokes everything."""


class FormError(ValueError):
    """A form is filled in wrongly; the message says how to mend it."""


def target_of(form: Mapping[str, str], now: float) -> RevocationTarget:
    """What a form asks to be revoked.

    Raises:
        FormError: it is incomplete, or its time is not in the past.
    """
    match form.get("what"):
        case "session":
            return SessionTarget(_text(form, "session_id", "a session id"))
        case "subject":
            return SubjectTarget(
                _text(form, "issuer", "an issuer"),
                _text(form, "subject", "a subject"),
                _time(form, now),
            )
        case "token":
            return TokenTarget(
                _text(form, "issuer", "an issuer"), _text(form, "token_id", "a token id (jti)")
            )
        case "everyone":
            return EveryoneTarget(_time(form, now))
        case _:
            raise FormError("Choose what to revoke.")


def check_issuer(target: SubjectTarget | TokenTarget, configured: Collection[str]) -> None:
    """Check that a target's issuer is one of those that authsvc is configured with.

    Raises:
        FormError: it is not.
    """
    if target.issuer not in configured:
        raise FormError(
            f"authsvc is not configured with the issuer {target.issuer}. Give one of: "
            f"{', '.join(configured)}. For an issuer that was removed from the configuration, use "
            "authsvc sessions revoke --allow-unknown-issuer."
        )


def named(target: RevocationTarget) -> dict[str, str]:
    """What a log calls it: a session by a prefix that does not authorise."""
    match target:
        case SessionTarget(session_id):
            return {"session": shown(session_id)}
        case SubjectTarget(issuer, subject, _):
            return {"issuer": issuer, "subject": subject}
        case TokenTarget(issuer, token_id):
            return {"issuer": issuer, "token_id": token_id}
        case EveryoneTarget():
            return {}
        case _:
            assert_never(target)


def outcome(target: RevocationTarget, revoked: Revoked) -> str:
    """What was done, in words."""
    if isinstance(target, SessionTarget):
        if revoked.session_count:
            return "The session is revoked."
        return "There was nothing to revoke: the session is unknown, or ended already."
    if revoked.session_count is None:
        return "The tokens are revoked."
    plural = "" if revoked.session_count == 1 else "s"
    return f"The tokens are revoked: {revoked.session_count} live session{plural} held one."


def place_after(target: RevocationTarget) -> str:
    """The page that shows what became of it."""
    match target:
        case SessionTarget(session_id):
            return "/session?" + urlencode({"id": session_id})
        case SubjectTarget(issuer, subject, _):
            return "/sessions?" + urlencode({"issuer": issuer, "subject": subject})
        case _:
            return "/events"


def _text(form: Mapping[str, str], name: str, what: str) -> str:
    text = form.get(name, "")  # exactly: white space may be part of a name
    if not 0 < len(text) <= MAX_TEXT_LENGTH:
        raise FormError(f"Give {what}, of {MAX_TEXT_LENGTH} characters at most.")
    return text


def _time(form: Mapping[str, str], now: float) -> float | None:
    text = form.get("before", "").strip()
    if not text:
        return None
    try:
        time = parse(text)
    except ValueError:
        raise FormError("Give the time as 2026-01-31T23:59:59, in UTC.") from None
    if not 0 <= time <= now:
        raise FormError("The time has to be in the past.")
    return time
