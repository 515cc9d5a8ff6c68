"""Reading claim values that must be what they claim to be."""

from __future__ import annotations

from collections.abc import Mapping

from authsvc.errors import AuthError, Reason

MAX_STRINGS = 10_000
"""Entries in one list, expanded ones included."""


def malformed(name: str, what: str) -> AuthError:
    """TOKEN_MALFORMED, with a detail that names the claim and never its value."""
    return AuthError(Reason.TOKEN_MALFORMED, f"claim {name} {what}")


def strings(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    """A list of strings, without repeats, in order; empty when absent.

    Raises:
        AuthError: TOKEN_MALFORMED for anything else.
    """
    value = claims.get(name)
    return () if value is None else string_list(value, name)


def string_list(value: object, name: str) -> tuple[str, ...]:
    """``value`` as a list of strings, without repeats, in order.

    Raises:
        AuthError: TOKEN_MALFORMED if it is none.
    """
    if not isinstance(value, list) or len(value) > MAX_STRINGS:
        raise malformed(name, "is not a list of strings")
    texts = [item for item in value if isinstance(item, str) and item]
    if len(texts) != len(value):
        raise malformed(name, "holds something other than a string")
    return tuple(dict.fromkeys(texts))
