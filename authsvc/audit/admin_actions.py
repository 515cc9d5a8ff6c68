"""Audit of operators: one event for a command, and a bounded number for a program in a loop."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from authsvc.audit import security
from authsvc.audit.security import SecurityEvent, SecurityEventType

WINDOW_SECONDS = 60.0
"""For how long an action of an operator is known, from its first event on."""

MOST_EVENTS = 5
"""Events of one action in that time; further repetitions are counted, and reported at its end."""

MAX_ACTIONS = 1_024
"""Actions that are known at once; beyond, the oldest is reported and evicted, and would be audited
anew."""


@dataclass(frozen=True, slots=True)
class _Action:
    """What is told apart: another connection, filter, session or position is another action."""

    method: str
    caller: str
    peer: str
    request_digest: bytes


@dataclass(slots=True)
class _Repeats:
    """The repetitions of an action.

    Attributes:
        began: when it was audited first, on the clock.
        events: how many it has.
        unaudited: repetitions without an event.
    """

    began: float
    events: int = 1
    unaudited: int = 0


class AdminActions:
    """Audits what operators do: ``ADMIN_ACTION``.

    Every command has an event. The next page of a list has none within ``WINDOW_SECONDS`` of an
    event of the same caller, connection, method and filter; so a page token of somebody else, or
    one that was kept, is audited like a new command. A watch that is resumed is a command: its
    resume token may be made up, to read what had happened before the watch was opened. Equal
    requests beyond ``MOST_EVENTS`` are counted.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # In the order of their beginning.
        self._recent: dict[_Action, _Repeats] = {}

    def acted(
        self, method: str, *, caller: str, peer: str, request: bytes, continues: bool = False
    ) -> None:
        """Audit that an operator was admitted to an RPC of ``SessionAdminService``.

        Args:
            method: of the RPC; ``WatchSessions; resumed`` of a watch that begins in the past.
            caller: the operator's name.
            peer: the address and port that it called from.
            request: what it asks for, encoded; without a page token.
            continues: whether it has a page token.
        """
        self.report()
        action = _Action(method, caller, peer, hashlib.sha256(request).digest())
        repeats = self._recent.get(action)
        if repeats is None:
            if len(self._recent) >= MAX_ACTIONS:
                self._evict(next(iter(self._recent)))
            self._recent[action] = _Repeats(self._clock())
        elif continues:
            return
        elif repeats.events >= MOST_EVENTS:
            repeats.unaudited += 1
            return
        else:
            repeats.events += 1
        _audit(action)

    def report(self) -> None:
        """Report the repetitions whose time has passed; called periodically, too."""
        until = self._clock() - WINDOW_SECONDS
        while self._recent:
            action, repeats = next(iter(self._recent.items()))
            if repeats.began > until:
                return
            self._evict(action)

    def close(self) -> None:
        """Report those that are not reported yet."""
        for action in list(self._recent):
            self._evict(action)

    def _evict(self, action: _Action) -> None:
        repeats = self._recent.pop(action)
        if repeats.unaudited:
            seconds = min(self._clock() - repeats.began, WINDOW_SECONDS)
            _audit(action, f"; {repeats.unaudited} more in {seconds:.0f} s")


def _audit(action: _Action, more: str = "") -> None:
    detail = f"{action.method}; from {action.peer}{more}"
    security.record(
        SecurityEvent(SecurityEventType.ADMIN_ACTION, caller=action.caller, detail=detail)
    )
