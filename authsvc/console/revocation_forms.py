"""Revocations as forms: what a form asks for, and the notice about the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import assert_never
from urllib.parse import urlencode

from authsvc.client.admin import Revoked
from authsvc.common.times import parse
from authsvc.domain.events import MIN_PREFIX_LENGTH
from authsvc.domain.record import Record
from authsvc.domain.resolution import shown
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)

MAX_TEXT_LENGTH = 2_048
"""Characters of an issuer, a subject or a token id; authsvc has the same limit."""

EVERYONE_WORD = "everyone"
"""An operator types it to revoke everyone's tokens."""


SHORT_PREFIX = (
    f"No session has this id. The beginning of an id has at least {MIN_PREFIX_LENGTH} characters."
)


class FormError(ValueError):
    """A form is incomplete or invalid; the message says how to correct it."""


def target_of(form: Mapping[str, str], now: float) -> RevocationTarget:
    """The target of a form.

    Args:
        form: the fields.
        now: seconds since the epoch.

    Raises:
        FormError: the form is incomplete, or its time is not in the past.
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


def several(prefix: str, records: Sequence[Record], *, has_more: bool) -> str:
    """The problem of a form whose session id begins those of several sessions."""
    count = f"more than {len(records)}" if has_more else f"{len(records)}"
    ids = ", ".join(f"{it.id} of {it.subject or 'no subject'}" for it in records)
    return f"The ids of {count} sessions begin with {prefix}. Give the whole id of one: {ids}."


def check_issuer(target: SubjectTarget | TokenTarget, configured: Collection[str]) -> None:
    """Check that a target's issuer is one that authsvc is configured with.

    Raises:
        FormError: it is not.
    """
    if target.issuer not in configured:
        raise FormError(
            f"authsvc is not configured with the issuer {target.issuer}. Give one of: "
            f"{', '.join(configured)}. For an issuer that was removed from the configuration, use "
            "authsvc sessions revoke --allow-unknown-issuer."
        )


def log_fields(target: RevocationTarget) -> dict[str, str]:
    """A target in a log line: a session by a prefix of its id, which does not authorise."""
    match target:
        case SessionTarget(session_id):
            return {"session": shown(session_id)}
        case SubjectTarget(issuer, subject, _):
            return {"issuer": issuer, "subject": subject}
        case TokenTarget(issuer, token_id):
            return {"issuer": issuer, "token_id": token_id}
        case ProviderSessionTarget(issuer, _, subject):
            return {"issuer": issuer, "subject": subject}
        case EveryoneTarget():
            return {}
        case _:
            assert_never(target)


def notice_of(target: RevocationTarget, revoked: Revoked) -> str:
    """The result of a revocation, as the next page shows it."""
    if isinstance(target, SessionTarget):
        if revoked.session_count:
            return "The session is revoked."
        return "There was nothing to revoke: the session is unknown, or has ended already."
    if revoked.session_count is None:
        return "The tokens are revoked."
    plural = "" if revoked.session_count == 1 else "s"
    return f"The tokens are revoked: {revoked.session_count} live session{plural} held one."


def page_after(target: RevocationTarget) -> str:
    """The address of the page that shows the effect."""
    match target:
        case SessionTarget(session_id):
            return "/session?" + urlencode({"id": session_id})
        case SubjectTarget(issuer, subject, _):
            return "/sessions?" + urlencode({"issuer": issuer, "subject": subject})
        case _:
            return "/events"


def _text(form: Mapping[str, str], name: str, what: str) -> str:
    text = form.get(name, "")  # not stripped: white space may be part of a name
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
