"""Read your writes: the consistency tokens of this client's latest writes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KEEP_SECONDS = 2.0
"""Every replica sees a write within 1 s; the rest allows for clocks that run unevenly."""

MAX_TOKENS = 10_000
"""The oldest is evicted first: every replica has most likely seen its write."""

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
        self._tokens: OrderedDict[Key, _Entry] = OrderedDict()

    def of(self, key: Key) -> str:
        """The token to send with a request; empty if there was no recent write."""
        entry = self._tokens.get(key)
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
        while self._tokens and next(iter(self._tokens.values())).until <= now:
            self._tokens.popitem(last=False)
        before = self._tokens.get(key)
        if before is not None and before.ends and not ends:
            return
        self._tokens[key] = _Entry(token, now + KEEP_SECONDS, ends)
        self._tokens.move_to_end(key)
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
