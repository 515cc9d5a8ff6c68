"""What one caller may use, so that a flood of one caller does not reach the others.

Normal operation reaches none of the limits. Each rejection says when to try again.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_CONCURRENT_CALLS = 10_000
"""Calls in flight, of all callers together, unless configured otherwise."""


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
