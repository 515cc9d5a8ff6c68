"""``[sessions]`` and ``[revocations]``: the lifetimes of sessions and revocations."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, PositiveFloat

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table
from authsvc.domain.record import Limits

_DEFAULTS = Limits()


class SessionSettings(Table):
    """``[sessions]``: the lifetime of sessions, and how many may be unauthenticated."""

    unauthenticated_idle_seconds: PositiveFloat = Field(
        default=_DEFAULTS.unauthenticated_idle_seconds,
        description="Idle time after which an unauthenticated session expires.",
    )
    authenticated_idle_seconds: PositiveFloat = Field(
        default=_DEFAULTS.authenticated_idle_seconds,
        description="Idle time after which an authenticated session expires.",
    )
    absolute_seconds: PositiveFloat = Field(
        default=_DEFAULTS.absolute_seconds,
        description="Age at which every session expires, used or not.",
    )
    tombstone_seconds: PositiveFloat = Field(
        default=_DEFAULTS.tombstone_seconds,
        description="How long a revoked session is reported as revoked. Later it is unknown.",
    )
    unauthenticated_cap: int = Field(
        default=10_000,
        ge=1,
        description="Unauthenticated sessions at once. Beyond it, the oldest ones are removed.",
    )

    @rule
    def _idle_sessions_expire(self) -> Iterator[Fault]:
        yield from self.unreached("unauthenticated_idle_seconds", "absolute_seconds")
        yield from self.unreached("authenticated_idle_seconds", "absolute_seconds")

    def limits(self) -> Limits:
        """The lifetimes, for the decision table."""
        return Limits(
            unauthenticated_idle_seconds=self.unauthenticated_idle_seconds,
            authenticated_idle_seconds=self.authenticated_idle_seconds,
            absolute_seconds=self.absolute_seconds,
            tombstone_seconds=self.tombstone_seconds,
        )


class RevocationSettings(Table):
    """``[revocations]``: the retention of revocations."""

    retention_seconds: PositiveFloat = Field(
        default=_DEFAULTS.not_befores_kept_seconds,
        description="How long a revocation is kept. Tokens issued longer ago are rejected.",
    )
