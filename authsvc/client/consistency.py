"""Read your writes: the consistency tokens of what this client has just written."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

KEEP_SECONDS = 2.0
"""Every replica knows of a write within 1 s; the rest is for clocks that run unevenly."""

MAX_TOKENS = 10_000
"""The oldest goes first: its write is the one that everybody is likeliest to know."""

Key = tuple[str, str]
"""A session: its id and "", or "" and the resource, for the principal sessions there."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    token: str
    until: float
    ends: bool


class ConsistencyTokens:
    """The last consistency token for each session, for as long as it is of use.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: OrderedDict[Key, _Remembered] = OrderedDict()

    def of(self, key: Key) -> str:
        """What to send with a request; empty when nothing has been written of late."""
        remembered = self._tokens.get(key)
        if remembered is None or remembered.until <= self._clock():
            return ""
        return remembered.token

    def remember(self, key: Key, token: str, *, ends: bool = False) -> None:
        """Keep an answer's token.

        Args:
            key: the session.
            token: empty when the answer had none.
            ends: whether the session has been ended. The answer to a call that was under way at the
                same time does not take its place.
        """
        if not token:
            return
        now = self._clock()
        while self._tokens and next(iter(self._tokens.values())).until <= now:
            self._tokens.popitem(last=False)
        before = self._tokens.get(key)
        if before is not None and before.ends and not ends:
            return
        self._tokens[key] = _Remembered(token, now + KEEP_SECONDS, ends)
        self._tokens.move_to_end(key)
        if len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
