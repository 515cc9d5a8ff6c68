"""``[limits]``: what callers may ask for, one by one and together."""

from __future__ import annotations

from dataclasses import fields

from pydantic import Field, PositiveFloat

from authsvc.access.limits import MAX_CONCURRENT_CALLS, CallerLimits
from authsvc.common.settings import Table

_CALLER = CallerLimits()


class LimitSettings(Table):
    """``[limits]``: what each caller may ask for. Rates are per second."""

    calls_per_second: PositiveFloat = Field(
        default=_CALLER.calls_per_second,
        description="Calls of one caller, resolves on a stream among them.",
    )
    calls_burst: float = Field(default=_CALLER.calls_burst, ge=1, description="At once.")
    max_concurrent_calls_per_caller: int = Field(
        default=_CALLER.max_concurrent_calls_per_caller,
        ge=2,
        description="In flight. An open stream is one, each resolve on it another.",
    )
    max_streams_per_caller: int = Field(
        default=_CALLER.max_streams_per_caller,
        ge=1,
        description="Streams that it may have open: `ResolveSessionStream`, watches, reflection.",
    )
    rejected_tokens_per_second: PositiveFloat = Field(
        default=_CALLER.rejected_tokens_per_second,
        description="Beyond it, tokens that are not known yet are rejected unseen.",
    )
    rejected_tokens_burst: float = Field(
        default=_CALLER.rejected_tokens_burst, ge=1, description="At once."
    )
    anonymous_sessions_per_second: PositiveFloat = Field(
        default=_CALLER.anonymous_sessions_per_second,
        description="Sessions created without a token.",
    )
    anonymous_sessions_burst: float = Field(
        default=_CALLER.anonymous_sessions_burst, ge=1, description="At once."
    )
    max_concurrent_calls: int = Field(
        default=MAX_CONCURRENT_CALLS,
        ge=2,
        description="In flight, all callers together; half of it is reserved for known callers, in "
        "equal shares.",
    )
    max_connections: int = Field(
        default=2_000,
        ge=1,
        description="Open at once, those of unknown callers and unfinished handshakes among them; "
        "of each worker. New ones beyond it are closed. Lowered to what the process may open "
        "(RLIMIT_NOFILE, hard).",
    )
    max_concurrent_streams_per_connection: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Calls and streams at once on one connection; clients queue what is more.",
    )
    max_unauthenticated_calls: int = Field(
        default=1_000,
        ge=1,
        description="Calls that wait for their request before it is known who calls. Beyond it, "
        "calls without a known caller are rejected as they begin. Also refused calls, and answers "
        "of `Health/Check`, that their clients have not taken.",
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=10.0,
        description="How long a known caller's call may wait for its request then.",
    )

    def caller_limits(self) -> CallerLimits:
        """The same, for each caller."""
        names = {field.name for field in fields(CallerLimits)}
        return CallerLimits(**self.model_dump(include=names))
