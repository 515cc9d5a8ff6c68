"""What one caller may ask for, so that its flood is its own: token buckets, and a count of calls.

Normal operation touches none of them. Each refusal says when to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from authsvc.access import audit
from authsvc.domain.errors import AuthError, Reason, Status

REPORT_INTERVAL_SECONDS = 1.0
"""A caller that goes on flooding is written down so often, and not at each refusal."""

MAX_CONCURRENT_CALLS = 10_000
"""In flight, all callers together, unless configured otherwise."""

EVENTS_PER_SECOND = 100.0
EVENTS_BURST = 200.0
"""Refusals that are written down for one caller; more would say no more, and fill the disk."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """For each caller. Rates are per second; a burst is what may come at once.

    Attributes:
        calls_per_second: calls of any kind.
        calls_burst: at once.
        max_concurrent_calls_per_caller: in flight; a stream is one for as long as it is open.
        max_streams_per_caller: streams that it may have open.
        rejected_tokens_per_second: tokens that were looked at and refused; once they are used up,
            tokens not known yet are rejected before any work on them, and known ones are served as
            ever. What is known to have been valid and has expired does not count.
        rejected_tokens_burst: at once.
        anonymous_sessions_per_second: sessions that it may create without a token.
        anonymous_sessions_burst: at once.
    """

    calls_per_second: float = 20_000.0
    calls_burst: float = 20_000.0
    max_concurrent_calls_per_caller: int = 2_000
    max_streams_per_caller: int = 500
    rejected_tokens_per_second: float = 100.0
    rejected_tokens_burst: float = 200.0
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
        wait = self.wait(now)
        if wait == 0.0:
            self._level -= 1.0
        return wait

    def wait(self, now: float) -> float:
        """How long to wait until there is one to take, in seconds."""
        # A clock that steps back neither fills the bucket nor blocks it.
        if (elapsed := now - self._time) > 0.0:
            self._level = min(self._burst, self._level + elapsed * self._rate)
        self._time = now
        return 0.0 if self._level >= 1.0 else (1.0 - self._level) / self._rate

    def put_back(self) -> None:
        """Return one that was taken for nothing."""
        self._level = min(self._burst, self._level + 1.0)


class Capacity:
    """What is done at once for all callers together: a share for each of them, the rest for all.

    Half of it is reserved, in equal shares for the known callers, so that others cannot take it
    from a caller that is idle now. The other half goes to those that come first.

    Args:
        total: calls in flight.
        callers: how many callers are known.
    """

    __slots__ = ("_left", "share")

    def __init__(self, total: int, callers: int) -> None:
        self.share = total // 2 // max(1, callers)
        """Calls that each caller has to itself."""
        self._left = total - self.share * max(1, callers)

    def take(self) -> bool:
        """Take one of what is for all; whether there was one."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def put_back(self) -> None:
        """Return one."""
        self._left += 1


class Usage:
    """What one caller has used.

    Args:
        caller: its name.
        limits: what it may.
        clock: seconds, of any origin.
        capacity: what there is for all callers together.
    """

    def __init__(
        self,
        caller: str,
        limits: CallerLimits,
        clock: Callable[[], float],
        capacity: Capacity,
    ) -> None:
        now = clock()
        self._capacity = capacity
        self._streams = 0
        self._caller = caller
        self._clock = clock
        self._reported = now - REPORT_INTERVAL_SECONDS
        self._limits = limits
        self._in_flight = 0
        self._calls = Bucket(limits.calls_per_second, limits.calls_burst, now)
        self._refused = Bucket(limits.rejected_tokens_per_second, limits.rejected_tokens_burst, now)
        self._anonymous = Bucket(
            limits.anonymous_sessions_per_second, limits.anonymous_sessions_burst, now
        )
        self._events = Bucket(EVENTS_PER_SECOND, EVENTS_BURST, now)

    def begin_call(self) -> None:
        """One call begins; ``end_call`` is due unless this raises.

        Raises:
            AuthError: OVERLOADED.
        """
        if self._in_flight >= self._limits.max_concurrent_calls_per_caller:
            self._refuse(Reason.OVERLOADED, "too many calls are in flight", 1.0)
        self.count_call()
        if self._in_flight >= self._capacity.share and not self._capacity.take():
            self._refuse(Reason.OVERLOADED, "too many calls of all callers are in flight", 1.0)
        self._in_flight += 1

    def begin_stream(self) -> None:
        """A stream begins, which is a call for as long as it is open; ``end_stream`` is due unless
        this raises.

        Raises:
            AuthError: OVERLOADED.
        """
        if self._streams >= self._limits.max_streams_per_caller:
            self._refuse(Reason.OVERLOADED, "too many streams are open", 1.0)
        self.begin_call()
        self._streams += 1

    def end_stream(self) -> None:
        """A stream that had begun has ended."""
        self._streams -= 1
        self.end_call()

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
        if self._in_flight >= self._capacity.share:
            self._capacity.put_back()

    def seconds_until_check(self) -> float:
        """How long tokens that are not known are rejected unseen; 0 while they are checked."""
        wait = self._refused.wait(self._clock())
        if wait > 0.0:
            self._report(Reason.OVERLOADED, "too many refused tokens", self._clock())
        return wait

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
            if error.reason.status is Status.UNAVAILABLE and not error.counts_as_refused:
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
        total: calls in flight of all callers together.
        callers: how many callers are registered.
    """

    def __init__(
        self,
        limits: CallerLimits,
        clock: Callable[[], float],
        *,
        total: int = MAX_CONCURRENT_CALLS,
        callers: int = 1,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._capacity = Capacity(total, callers)
        self._by_caller: dict[str, Usage] = {}

    def of(self, caller: str) -> Usage:
        """One caller's."""
        usage = self._by_caller.get(caller)
        if usage is None:
            usage = Usage(caller, self._limits, self._clock, self._capacity)
            self._by_caller[caller] = usage
        return usage
