"""What one caller may ask for, so that its flood is its own: token buckets, and a count of calls.

Normal operation touches none of them. Each refusal says when to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from authsvc import audit
from authsvc.errors import AuthError, Reason, Status

REPORT_INTERVAL_SECONDS = 1.0
"""A caller that goes on flooding is written down so often, and not at each refusal."""

EVENTS_PER_SECOND = 100.0
EVENTS_BURST = 200.0
"""Refusals that are written down for one caller; more would say no more, and fill the disk."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """For each caller. Rates are per second; a burst is what may come at once.

    Attributes:
        calls_per_second: calls of any kind.
        calls_burst: at once.
        concurrent_calls: in flight.
        refused_tokens_per_second: tokens that were looked at and refused; once they are used up,
            tokens not known yet are not looked at, and known ones are served as ever. What is
            known to have been good and has expired does not count.
        refused_tokens_burst: at once.
        anonymous_sessions_per_second: sessions that it may create without a token.
        anonymous_sessions_burst: at once.
    """

    calls_per_second: float = 20_000.0
    calls_burst: float = 20_000.0
    concurrent_calls: int = 2_000
    refused_tokens_per_second: float = 1_000.0
    refused_tokens_burst: float = 2_000.0
    anonymous_sessions_per_second: float = 100.0
    anonymous_sessions_burst: float = 1_000.0


class Bucket:
    """A token bucket: ``burst`` at once, ``rate`` a second after that."""

    __slots__ = ("_burst", "_level", "_rate", "_time")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._time = now

    def take(self, now: float) -> float:
        """Take one; how long to wait where there is none, in seconds, and 0 where there was."""
        # A clock that steps back neither fills the bucket nor blocks it.
        if (elapsed := now - self._time) > 0.0:
            self._level = min(self._burst, self._level + elapsed * self._rate)
        self._time = now
        if self._level < 1.0:
            return (1.0 - self._level) / self._rate
        self._level -= 1.0
        return 0.0

    def put_back(self) -> None:
        """Return one that was taken for nothing."""
        self._level = min(self._burst, self._level + 1.0)


class Usage:
    """What one caller has used.

    Args:
        caller: its name.
        limits: what it may.
        clock: seconds, of any origin.
    """

    def __init__(self, caller: str, limits: CallerLimits, clock: Callable[[], float]) -> None:
        now = clock()
        self._caller = caller
        self._clock = clock
        self._reported = now - REPORT_INTERVAL_SECONDS
        self._limits = limits
        self._in_flight = 0
        self._calls = Bucket(limits.calls_per_second, limits.calls_burst, now)
        self._refused = Bucket(limits.refused_tokens_per_second, limits.refused_tokens_burst, now)
        self._anonymous = Bucket(
            limits.anonymous_sessions_per_second, limits.anonymous_sessions_burst, now
        )
        self._events = Bucket(EVENTS_PER_SECOND, EVENTS_BURST, now)

    def begin_call(self) -> None:
        """One call begins; ``end_call`` is due unless this raises.

        Raises:
            AuthError: OVERLOADED.
        """
        if self._in_flight >= self._limits.concurrent_calls:
            self._refuse(Reason.OVERLOADED, "too many calls are in flight", 1.0)
        self.count_call()
        self._in_flight += 1

    def count_call(self) -> None:
        """One call that is over as soon as it begins.

        Raises:
            AuthError: OVERLOADED.
        """
        wait = self._calls.take(self._clock())
        if wait > 0.0:
            self._refuse(Reason.OVERLOADED, "too many calls", wait)

    def end_call(self) -> None:
        """A call that had begun has ended."""
        self._in_flight -= 1

    @contextmanager
    def check(self) -> Iterator[None]:
        """One check of a token that is not known yet: counted until it turns out good.

        What is in flight counts as refused, or a flood would be through before its first answer.

        Raises:
            AuthError: OVERLOADED, once too many have been refused.
        """
        wait = self._refused.take(self._clock())
        self._refuse(Reason.OVERLOADED, "too many refused tokens", wait)
        try:
            yield
        except AuthError as error:
            if error.reason.status is Status.UNAVAILABLE:
                self._refused.put_back()
            raise
        self._refused.put_back()

    def may_record(self) -> bool:
        """Whether one more refusal is to be written down."""
        now = self._clock()
        if self._events.take(now) == 0.0:
            return True
        self._report(Reason.OVERLOADED, "too many refusals to write all of them down", now)
        return False

    def before_anonymous_session(self) -> None:
        """Called before a session without a token is created.

        Raises:
            AuthError: SESSION_LIMIT.
        """
        wait = self._anonymous.take(self._clock())
        self._refuse(Reason.SESSION_LIMIT, "too many sessions without a token", wait)

    def _refuse(self, reason: Reason, detail: str, wait_seconds: float) -> None:
        if wait_seconds <= 0.0:
            return
        self._report(reason, detail, self._clock())
        raise AuthError(reason, detail, retry_after_seconds=wait_seconds)

    def _report(self, reason: Reason, detail: str, now: float) -> None:
        # A clock that steps back does not silence it.
        if 0.0 <= now - self._reported < REPORT_INTERVAL_SECONDS:
            return
        self._reported = now
        audit.record(
            audit.Event(
                audit.EventType.LIMIT_REACHED,
                reason=reason.name,
                caller=self._caller,
                detail=detail,
            )
        )


class Usages:
    """The usage of each caller, by name. Callers are registered, so there are few.

    Args:
        limits: what each may.
        clock: seconds, of any origin.
    """

    def __init__(self, limits: CallerLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._by_caller: dict[str, Usage] = {}

    def of(self, caller: str) -> Usage:
        """One caller's."""
        usage = self._by_caller.get(caller)
        if usage is None:
            usage = self._by_caller[caller] = Usage(caller, self._limits, self._clock)
        return usage
