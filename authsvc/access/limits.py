"""What one caller may use, so that a flood of one caller does not reach the others.

Normal operation reaches none of the limits. Each rejection says when to try again.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_CONCURRENT_CALLS = 10_000
"""Calls in flight, of all callers together, unless configured otherwise."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """Limits of each caller. Rates are per second; a burst is how many may come at once.

    Attributes:
        calls_per_second: calls, whatever the method; each entry of a stream is one.
        calls_burst: at once.
        max_concurrent_calls_per_caller: calls in flight; an open stream is one.
        max_streams_per_caller: open streams.
        rejected_tokens_per_second: tokens that were checked and rejected. Beyond it, unknown tokens
            are rejected without a check, while known ones are served. A token that is known to have
            been valid, and has expired, does not count.
        rejected_tokens_burst: at once.
        rejected_tokens_per_second_per_client: the same of one client of a caller that tells the
            addresses of its clients, as gateways do. What is beyond it does not count for the
            caller.
        rejected_tokens_burst_per_client: at once.
        anonymous_sessions_per_second: sessions that are created without a token.
        anonymous_sessions_burst: at once.
    """

    calls_per_second: float = 20_000.0
    calls_burst: float = 20_000.0
    max_concurrent_calls_per_caller: int = 2_000
    max_streams_per_caller: int = 500
    rejected_tokens_per_second: float = 100.0
    rejected_tokens_burst: float = 200.0
    rejected_tokens_per_second_per_client: float = 10.0
    rejected_tokens_burst_per_client: float = 50.0
    anonymous_sessions_per_second: float = 100.0
    anonymous_sessions_burst: float = 1_000.0
