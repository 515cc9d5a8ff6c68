"""Answers that stand until something changes: the hot path, rows 8, 11 and 17 of repeats.

What is kept is never believed by itself. Each request checks anew that its token is still good,
that the record is the very one that was decided on, and that no not-before has come; only then is
deciding again, issuing credentials and building the answer what need not be done twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.record import Record
from authsvc.domain.resolution import Resolution
from authsvc.domain.tokens import VerifiedToken

ANSWER_BYTES = 20_000
"""What answers may take in memory, on average, as if nothing were shared with other caches. Where
they take more, fewer are kept."""

_OBJECTS_BYTES = 1_000
"""What an answer takes beside what it was decided on."""


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

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate, as if nothing were shared with other caches."""
        credentials = self.resolution.credentials
        principal = self.token.principal.memory_bytes()
        return (
            _OBJECTS_BYTES
            + self.record.memory_bytes()
            + self.token.memory_bytes()
            # What is sent has the principal once more.
            + principal
            + (2 * credentials.memory_bytes() if credentials is not None else 0)
        )


class SettledAnswers:
    """The answers used last, by the digest of the request.

    Args:
        size: how many there may be, of ``ANSWER_BYTES`` each on average.
    """

    def __init__(self, size: int) -> None:
        self._answers: LruCache[bytes, Settled] = LruCache(size, bytes_for(size, ANSWER_BYTES))
        self.get = self._answers.get
        """The answer to the request of that digest; None where there is none."""
        self.forget = self._answers.discard
        """Evict an answer that is not valid any more."""

    def keep(self, request_digest: bytes, settled: Settled) -> None:
        """Cache an answer, and evict those used least recently where there are too many."""
        self._answers.put(request_digest, settled, settled.memory_bytes())

    def __len__(self) -> int:
        return len(self._answers)
