"""Settings of limits by subject, by client and for everyone, of one server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_line
from authsvc.common.setting_rules import Fault
from authsvc.common.settings import Table
from authsvc.domain.rates import (
    MAX_BURST,
    MAX_CALLS_PER_SECOND,
    MAX_LIMITS_OF_CALL,
    MIN_CALLS_PER_SECOND,
    Rate,
    RateLimit,
    RatePer,
    check_limit_name,
)

CallsPerSecond = Annotated[float, Field(ge=MIN_CALLS_PER_SECOND, le=MAX_CALLS_PER_SECOND)]
Burst = Annotated[float, Field(ge=1, le=MAX_BURST)]


def rate_of(calls_per_second: float, burst: float | None) -> Rate:
    """The rate; without a burst, as many calls at once as in a second."""
    return Rate(calls_per_second, max(1.0, calls_per_second) if burst is None else burst)


class RateLimitSettings(Table):
    """``[[rate_limits]]``: a limit of some calls, in each replica and each worker of authsvc."""

    NAMED_BY: ClassVar[str] = "name"

    name: Annotated[str, AfterValidator(check_limit_name)] = Field(
        description="Its name, which clients that reach it see: 1 to 64 visible ASCII characters."
    )
    tools: tuple[Annotated[str, Field(min_length=1), AfterValidator(check_line)], ...] = Field(
        default=(),
        description="The tools whose calls count. Default: all calls that need a token.",
    )
    per: Literal["subject", "client", "everyone"] = Field(
        default="subject",
        description="Whose calls count together: a subject's; those of all subjects with one "
        "client id; or everyone's.",
    )
    calls_per_second: CallsPerSecond = Field(
        description="How many are served: 0.1 is one in ten seconds."
    )
    burst: Burst | None = Field(
        default=None, description="How many at once. Default: the rate, and at least 1."
    )

    def limit(self) -> RateLimit:
        """The limit."""
        rate = rate_of(self.calls_per_second, self.burst)
        return RateLimit(self.name, rate, RatePer[self.per.upper()])


def rate_limit_faults(limits: Sequence[RateLimitSettings]) -> Iterator[Fault]:
    """Faults between limits of one server."""
    if len(limits) > MAX_LIMITS_OF_CALL:
        yield Fault(f"has more than {MAX_LIMITS_OF_CALL} limits", ("rate_limits",))
    counted = Counter(item.name for item in limits)
    for position, item in enumerate(limits):
        if counted[item.name] > 1:
            yield Fault("another limit has it", ("rate_limits", position, "name"))


def unknown_tools(limits: Sequence[RateLimitSettings], tools: Collection[str]) -> list[str]:
    """The tools that limits name and that are none."""
    return sorted({name for item in limits for name in item.tools if name not in tools})
