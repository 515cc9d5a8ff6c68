"""Answers that stand until something changes: the hot path, rows 8, 11 and 17 of repeats.

What is kept is never believed by itself. Each request checks anew that its token is known and in
force, that the record is the very one that was decided on, and that no cut-off has come; only then
is deciding again, issuing credentials and building the answer what need not be done twice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from authsvc.resolution import Resolution
from authsvc.sessions import Record, VerifiedToken

Key = tuple[str, str, bytes]
"""Session id of the request, resource, and the token's digest."""


@dataclass(slots=True)
class Settled:
    """An answer, and what it was decided on.

    Attributes:
        record: as the store had it.
        token: as the verifier had it.
        until: when the record is due to be written, or credentials to be renewed.
        resolution: the answer.
        encoded: what the transport has made of it; empty until it has.
    """

    record: Record
    token: VerifiedToken
    until: float
    resolution: Resolution
    encoded: bytes = field(default=b"", repr=False)


class SettledAnswers:
    """The answers used last, at most ``size`` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[Key, Settled] = OrderedDict()

    def get(self, key: Key, token: VerifiedToken, now: float) -> Settled | None:
        """The answer to this very token, if its time is not up."""
        settled = self._answers.get(key)
        if settled is None:
            return None
        if settled.token is not token or now >= settled.until:
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return settled

    def keep(self, key: Key, settled: Settled) -> None:
        """Keep an answer, and let go of the one used least recently where there are too many."""
        self._answers[key] = settled
        self._answers.move_to_end(key)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)
