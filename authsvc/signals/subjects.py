"""What an event is about: subject identifiers (RFC 9493), and complex subjects of the Shared
Signals Framework 1.0 (section 3).

Senders differ, so that reading is tolerant: what is not understood names nobody, and hides nothing
that is understood beside it. No guess is made: an e-mail address or an opaque id names a user only
where the stream says that it is the subject of tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from authsvc.tokens.values import MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH

MAX_ALIASES = 16
"""Identifiers of one ``aliases``; more name nobody."""

_SHOWN_CHARACTERS = 64

_ISSUER_AND_SUBJECT = frozenset({"iss_sub", "id_token_claims"})
"""Formats with ``iss`` and ``sub``; the second is Google's."""

_VALUES = {"email": "email", "opaque": "id"}
"""Formats whose one member may be the subject of tokens: the format, and the member."""

SUBJECT_FORMATS = tuple(_VALUES)
"""The formats that a stream may declare to hold the subject of tokens."""


@dataclass(frozen=True, slots=True)
class User:
    """A user, as a signal names them.

    Attributes:
        issuer: whose subject; empty where the identifier does not say.
        subject: claim ``sub`` of the user's tokens.
    """

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token, as a signal names it: claims ``iss`` and ``jti``."""

    issuer: str
    token_id: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about, as far as it is understood.

    Attributes:
        users: the user, under each name that is given; empty where none is understood.
        sid: the provider session; empty where none is named.
        tokens: the single tokens that are named.
        fault: why no user is understood, for operators; empty where one is, or a token is named.
    """

    users: tuple[User, ...] = ()
    sid: str = field(default="", repr=False)
    tokens: tuple[Token, ...] = ()
    fault: str = ""

    @property
    def is_known(self) -> bool:
        """Whether it names anything."""
        return bool(self.users or self.sid or self.tokens)


def subject_of(places: Iterable[object], formats: Collection[str]) -> Subject:
    """The subject of an event: of the first place that names anything.

    Args:
        places: where senders put it, any JSON values; None for a place that is not there.
        formats: those of ``SUBJECT_FORMATS`` whose value is the subject of tokens.
    """
    first_fault = ""
    for place in places:
        if place is None:
            continue
        subject = _read(place, formats)
        if subject.is_known:
            return subject
        first_fault = first_fault or subject.fault
    return Subject(fault=first_fault or "it names no subject")


def _read(value: object, formats: Collection[str]) -> Subject:
    if not isinstance(value, dict):
        return Subject(fault="its subject is not an object")
    name = _format(value)
    if name == "complex" or (not name and ("user" in value or "session" in value)):
        return _complex(value, formats)
    if name == "jwt_id":
        return _token(value)
    return _user(value, formats)


def _format(identifier: Mapping[str, object]) -> str:
    """The format of an identifier; older senders have ``subject_type``, and hyphens in it."""
    name = identifier.get("format", identifier.get("subject_type"))
    return name.replace("-", "_") if isinstance(name, str) else ""


def _complex(value: Mapping[str, object], formats: Collection[str]) -> Subject:
    """The user and the session. Other members narrow the event down to a device or an application,
    which tokens do not name."""
    user, sid = value.get("user"), _session_id(value.get("session"))
    if user is None:
        return Subject(sid=sid, fault="" if sid else "it names no user")
    named = (
        _user(user, formats) if isinstance(user, dict) else Subject(fault="its user is no object")
    )
    return Subject(named.users, sid, fault=named.fault)


def _session_id(session: object) -> str:
    if not isinstance(session, dict) or _format(session) != "opaque":
        return ""
    return _text(session, "id", MAX_TEXT_LENGTH)


def _token(value: Mapping[str, object]) -> Subject:
    issuer, token_id = (_text(value, name, MAX_TEXT_LENGTH) for name in ("iss", "jti"))
    if issuer and token_id:
        return Subject(tokens=(Token(issuer, token_id),))
    return Subject(fault="its subject of format jwt_id has not both iss and jti")


def _user(value: Mapping[str, object], formats: Collection[str]) -> Subject:
    if _format(value) != "aliases":
        return _one_user(value, formats)
    identifiers = value.get("identifiers")
    if not isinstance(identifiers, list) or not 0 < len(identifiers) <= MAX_ALIASES:
        return Subject(fault=f"its aliases are not a list of 1 to {MAX_ALIASES} identifiers")
    # Aliases do not nest (RFC 9493 section 3.2.8): one within them has no user.
    found = [_one_user(it, formats) for it in identifiers if isinstance(it, dict)]
    users = dict.fromkeys(user for named in found for user in named.users)
    return Subject(tuple(users), fault="" if users else "none of its aliases names a user")


def _one_user(value: Mapping[str, object], formats: Collection[str]) -> Subject:
    name = _format(value)
    if name in _ISSUER_AND_SUBJECT:
        issuer = _text(value, "iss", MAX_TEXT_LENGTH)
        subject = _text(value, "sub", MAX_SUBJECT_LENGTH)
        if issuer and subject:
            return Subject((User(issuer, subject),))
        return Subject(fault=f"its subject of format {name} has not both iss and sub")
    if name not in _VALUES:
        return Subject(fault=f"the format {name[:_SHOWN_CHARACTERS]!r} of its subject is unknown")
    if name not in formats:
        return Subject(fault=f"subject_formats has no {name!r}: it may not be the tokens' subject")
    subject = _text(value, _VALUES[name], MAX_SUBJECT_LENGTH)
    if subject:
        return Subject((User("", subject),))
    return Subject(fault=f"its subject of format {name} has no {_VALUES[name]}")


def _text(value: Mapping[str, object], name: str, most: int) -> str:
    """A member that may be a claim of tokens; empty where it cannot be."""
    text = value.get(name)
    return text if isinstance(text, str) and len(text) <= most else ""
