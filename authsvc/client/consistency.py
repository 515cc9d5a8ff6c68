"""Read your writes: the consistency tokens of this client's latest writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from authsvc.common.lru import ENTRY_BYTES, LruCache, bytes_for

KEEP_SECONDS = 2.0
"""Every replica sees a write within 1 s; the rest allows for clocks that run unevenly."""

MAX_TOKENS = 10_000
"""The oldest is evicted first: every replica has most likely seen its write."""

_ENTRY_BYTES = 600
"""What a token and its session take in memory."""

Key = tuple[str, str]
"""A session: its id and "", or "" and the resource, for the principal sessions there."""


@dataclass(frozen=True, slots=True)
class _Entry:
    token: str
    until: float
    ends: bool


class ConsistencyTokens:
    """The last consistency token of each session, while a replica may not have seen the write.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Never moved by a use: at the limit, the token of the oldest write goes.
        self._tokens: LruCache[Key, _Entry] = LruCache(
            MAX_TOKENS, bytes_for(MAX_TOKENS, ENTRY_BYTES + _ENTRY_BYTES)
        )

    def of(self, key: Key) -> str:
        """The token to send with a request; empty if there was no recent write."""
        entry = self._tokens.peek(key)
        if entry is None or entry.until <= self._clock():
            return ""
        return entry.token

    def keep(self, key: Key, token: str, *, ends: bool = False) -> None:
        """Keep the token of an answer.

        Args:
            key: the session.
            token: empty if the answer had none.
            ends: whether the call ended the session. The token of a call that was in flight at the
                same time does not replace this one.
        """
        if not token:
            return
        now = self._clock()
        while (oldest := self._tokens.oldest()) is not None and oldest[1].until <= now:
            self._tokens.discard(oldest[0])
        before = self._tokens.peek(key)
        if before is not None and before.ends and not ends:
            return
        self._tokens.put(key, _Entry(token, now + KEEP_SECONDS, ends), _ENTRY_BYTES)
