"""Readers of claim values, which check types and lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from authsvc.domain.errors import AuthError, Reason

MAX_STRINGS: Mapping[str, int] = {
    "buckets": 1_000,
    "permissions": 1_000,
    "roles": 256,
    "scope": 256,
}
"""Entries in a list, expanded ones included: they bound the memory of a cached token. Real tokens
have some dozens."""

MAX_TEXT_LENGTH = 1_024
"""Characters of a claim that is stored in records, events and logs, and of each name in a list.
Real ones have some dozens."""


MAX_SUBJECT_LENGTH = 255
"""Characters in a subject (OpenID Connect Core section 2)."""

_STRING_ALONE = frozenset({str})


def malformed(name: str, what: str, setting: str = "") -> AuthError:
    """TOKEN_MALFORMED, with a detail that names the claim, and does not quote its value.

    Args:
        name: of the claim.
        what: is wrong with it.
        setting: the one that says which claim is read; empty where none does.
    """
    return AuthError(Reason.TOKEN_MALFORMED, f"claim {name} {what}", setting=setting)


def name_fault(text: str, most: int) -> str:
    """What is wrong with the name of somebody, such as a subject; empty if nothing is.

    Args:
        text: the name.
        most: characters that it may have.
    """
    if not text:
        return "is empty"
    if len(text) > most:
        return f"is longer than {most} characters"
    if not text.isprintable():
        # Control characters, and invisible ones that make two names look the same.
        return "has characters that cannot be printed"
    return ""


def check_count(count: int, name: str, *, most: int) -> None:
    """
    Raises:
        AuthError: TOKEN_TOO_LARGE when a claim has more entries than ``most``.
    """
    if count > most:
        raise AuthError(Reason.TOKEN_TOO_LARGE, f"claim {name} has more than {most} entries")


def check_lengths(texts: Iterable[str], name: str) -> None:
    """
    Raises:
        AuthError: TOKEN_TOO_LARGE when a text of a claim has more than ``MAX_TEXT_LENGTH``
            characters.
    """
    if max(map(len, texts), default=0) > MAX_TEXT_LENGTH:
        raise AuthError(
            Reason.TOKEN_TOO_LARGE,
            f"claim {name} has a text of more than {MAX_TEXT_LENGTH} characters",
        )


def string_list(value: object, name: str, *, most: int, setting: str = "") -> tuple[str, ...]:
    """``value`` as a list of strings, without repeats, in order.

    Args:
        value: the claim.
        name: its name, for messages.
        most: entries that it may have.
        setting: see ``malformed``.

    Raises:
        AuthError: TOKEN_MALFORMED if it is none, TOKEN_TOO_LARGE if it or an entry is too long.
    """
    if not isinstance(value, list):
        raise malformed(name, "is not a list of strings", setting)
    check_count(len(value), name, most=most)
    # JSON has no subclasses of strings.
    if not _STRING_ALONE.issuperset(map(type, value)) or "" in value:
        raise malformed(name, "holds something other than a string", setting)
    check_lengths(value, name)
    return tuple(dict.fromkeys(value))
