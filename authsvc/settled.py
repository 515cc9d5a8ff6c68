"""Answers that stand until something changes: the hot path, rows 8, 11 and 17 of repeats.

What is kept is never believed by itself. Each request checks anew that its token is still good,
that the record is the very one that was decided on, and that no cut-off has come; only then is
deciding again, issuing credentials and building the answer what need not be done twice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from authsvc.resolution import Resolution
from authsvc.sessions import Record, VerifiedToken


@dataclass(slots=True)
class Settled:
    """An answer, and what it was decided on.

    Attributes:
        record: as the store had it.
        token: as the verifier had it.
        resource: of the request.
        seen: its consistency token.
        until: when the record is due to be written, or credentials to be renewed.
        resolution: the answer.
        encoded: what the transport has made of it; empty until it has.
    """

    record: Record
    token: VerifiedToken
    resource: str
    seen: str
    until: float
    resolution: Resolution
    encoded: bytes = field(default=b"", repr=False)


class SettledAnswers:
    """The answers used last, at most ``size`` of them, by the digest of the request."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[bytes, Settled] = OrderedDict()

    def get(self, request_digest: bytes) -> Settled | None:
        """The answer to that request."""
        settled = self._answers.get(request_digest)
        if settled is not None:
            self._answers.move_to_end(request_digest)
        return settled

    def keep(self, request_digest: bytes, settled: Settled) -> None:
        """Keep an answer, and let go of the one used least recently where there are too many."""
        self._answers[request_digest] = settled
        self._answers.move_to_end(request_digest)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def forget(self, request_digest: bytes) -> None:
        """Let go of an answer that does not stand any more."""
        self._answers.pop(request_digest, None)

    def __len__(self) -> int:
        return len(self._answers)
