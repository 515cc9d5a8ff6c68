"""Writes whose answer was lost: what they did is not known, and the audit says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from authsvc.domain.errors import AuthError

OUTCOME_UNKNOWN = "outcome=unknown"
"""How the ``detail`` of an event begins whose write may have been made, or not."""

CANCELLED = "CANCELLED"
"""The reason where the request ended before the store had answered: its caller left, or its time
was over."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why it is not known whether a write was made.

    Attributes:
        reason: of the event.
        detail: the beginning of the event's.
    """

    reason: str
    detail: str

    def with_detail(self, more: str) -> str:
        """The detail of an event that would have this one if the write was made."""
        return f"{self.detail}; {more}" if more else self.detail


def unanswered(error: BaseException) -> Unanswered | None:
    """Why it is not known whether a write was made; None where it was not made.

    Args:
        error: what the store's method raised.
    """
    if isinstance(error, AuthError) and error.is_unanswered:
        return Unanswered(error.reason.name, f"{OUTCOME_UNKNOWN}: {error.detail}")
    if isinstance(error, asyncio.CancelledError):
        return Unanswered(CANCELLED, f"{OUTCOME_UNKNOWN}: the request ended before the answer")
    return None
