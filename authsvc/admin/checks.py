"""Checks of the arguments of operators."""

from __future__ import annotations

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import MIN_PREFIX_LENGTH, RecordFilter

MAX_TEXT_LENGTH = 2_048
"""Characters of an issuer, a subject, a token's id or a resource."""


def check_name(what: str, text: str) -> None:
    """Check a name that is required.

    Raises:
        AuthError: ARGUMENT_INVALID: it is empty or too long.
    """
    if not 0 < len(text) <= MAX_TEXT_LENGTH:
        raise invalid(f"{what} is 1 to {MAX_TEXT_LENGTH} characters")


def check_filter(which: RecordFilter) -> None:
    """Check the lengths of what a filter names.

    Raises:
        AuthError: ARGUMENT_INVALID.
    """
    for text in (which.issuer, which.subject, which.resource, which.id_prefix):
        if len(text) > MAX_TEXT_LENGTH:
            raise invalid(f"a field of the filter is longer than {MAX_TEXT_LENGTH} characters")
    if 0 < len(which.id_prefix) < MIN_PREFIX_LENGTH:
        raise invalid(f"the prefix of a session id has at least {MIN_PREFIX_LENGTH} characters")


def invalid(detail: str) -> AuthError:
    """The error for an argument that is rejected; ``detail`` says why."""
    return AuthError(Reason.ARGUMENT_INVALID, detail)
