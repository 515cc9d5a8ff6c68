"""``[limits]``: the limits of each caller, and of all together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from pydantic import Field, PositiveFloat

from authsvc.access.limits import MAX_CONCURRENT_CALLS, CallerLimits
from authsvc.access.rates import ServiceRates
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table
from authsvc.domain.rates import Rate
from authsvc.http_auth.rate_limit_settings import Burst, CallsPerSecond, rate_of

_CALLER = CallerLimits()

_OF_CALLS = (
    ("calls_per_second_per_subject", "calls_burst_per_subject"),
    ("calls_per_second_per_client_id", "calls_burst_per_client_id"),
)


class LimitSettings(Table):
    """``[limits]``: the limits of each caller, and of all together. Rates are per second."""

    calls_per_second: PositiveFloat = Field(
        default=_CALLER.calls_per_second,
        description="Calls of one caller, each resolve on a stream included.",
    )
    calls_burst: float = Field(
        default=_CALLER.calls_burst, ge=1, description="The burst of that rate."
    )
    max_concurrent_calls_per_caller: int = Field(
        default=_CALLER.max_concurrent_calls_per_caller,
        ge=2,
        description="Calls in flight of one caller. An open stream is one, each resolve on it "
        "another.",
    )
    max_streams_per_caller: int = Field(
        default=_CALLER.max_streams_per_caller,
        ge=1,
        description="Open streams of one caller: `ResolveSessionStream`, watches, reflection.",
    )
    rejected_tokens_per_second: PositiveFloat = Field(
        default=_CALLER.rejected_tokens_per_second,
        description="Rejected tokens of one caller. Beyond it, tokens that are not cached are "
        "rejected without verification.",
    )
    rejected_tokens_burst: float = Field(
        default=_CALLER.rejected_tokens_burst, ge=1, description="The burst of that rate."
    )
    rejected_tokens_per_second_per_client: PositiveFloat = Field(
        default=_CALLER.rejected_tokens_per_second_per_client,
        description="Rejected tokens of one IPv4 address or one IPv6 /64 behind a gateway "
        "([ext_authz]). Beyond it, its tokens that are not cached are rejected without "
        "verification, and do not count for the gateway.",
    )
    rejected_tokens_burst_per_client: float = Field(
        default=_CALLER.rejected_tokens_burst_per_client,
        ge=1,
        description="The burst of that rate.",
    )
    anonymous_sessions_per_second: PositiveFloat = Field(
        default=_CALLER.anonymous_sessions_per_second,
        description="Sessions that one caller creates without a token.",
    )
    anonymous_sessions_burst: float = Field(
        default=_CALLER.anonymous_sessions_burst, ge=1, description="The burst of that rate."
    )
    calls_per_second_per_subject: CallsPerSecond | None = Field(
        default=None,
        description="Calls of one subject of an issuer, at all resources together; each replica "
        "and each worker counts its own. Beyond it, they are RATE_LIMITED. A check of a response "
        "that streams is no call. Default: no limit.",
    )
    calls_burst_per_subject: Burst | None = Field(
        default=None, description="The burst of that rate. Default: the rate, and at least 1."
    )
    calls_per_second_per_client_id: CallsPerSecond | None = Field(
        default=None,
        description="Likewise of all subjects with one client id of an issuer together. A token "
        "that names no client counts for its subject alone. Default: no limit.",
    )
    calls_burst_per_client_id: Burst | None = Field(
        default=None, description="The burst of that rate. Default: the rate, and at least 1."
    )
    max_concurrent_calls: int = Field(
        default=MAX_CONCURRENT_CALLS,
        ge=2,
        description="Calls in flight of all callers together. Half of it is reserved for the "
        "registered callers, in equal shares.",
    )
    max_connections: int = Field(
        default=2_000,
        ge=1,
        description="Open connections of each worker, unauthenticated ones and unfinished "
        "handshakes included. New connections beyond it are closed. The hard limit of open "
        "files (RLIMIT_NOFILE) lowers it.",
    )
    max_concurrent_streams_per_connection: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Calls and streams in flight on one connection. Clients queue further ones.",
    )
    max_unauthenticated_calls: int = Field(
        default=1_000,
        ge=1,
        description="Calls whose request has not arrived, so that their caller is not "
        "identified. Beyond it, calls of unregistered callers are rejected as they begin. It "
        "also bounds rejections and responses of `Health/Check` that clients have not read. With "
        "[ext_authz], where requests may be 4.25 times as long, it counts for as many fewer calls.",
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=10.0,
        description="Beyond that limit, how long a registered caller's call waits for its request.",
    )

    @rule
    def _limits_are_reached(self) -> Iterator[Fault]:
        yield from self.unreached("max_concurrent_calls_per_caller", "max_concurrent_calls")
        yield from self.unreached("max_streams_per_caller", "max_concurrent_calls_per_caller")

    @rule
    def _bursts_have_rates(self) -> Iterator[Fault]:
        for rate, burst in _OF_CALLS:
            if getattr(self, rate) is None and getattr(self, burst) is not None:
                yield Fault(f"has no effect without {rate}: set it", (burst,))

    def service_rates(self) -> ServiceRates:
        """The limits of each subject and of each client id."""
        return ServiceRates(*(self._rate(*names) for names in _OF_CALLS))

    def _rate(self, rate: str, burst: str) -> Rate | None:
        calls_per_second = getattr(self, rate)
        if calls_per_second is None:
            return None
        return rate_of(calls_per_second, getattr(self, burst))

    def caller_limits(self) -> CallerLimits:
        """The limits of each caller."""
        names = {field.name for field in fields(CallerLimits)}
        return CallerLimits(**self.model_dump(include=names))
