"""``[sessions]`` and ``[revocations]``: how long sessions and revocations last."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from authsvc.common.settings import Table
from authsvc.domain.record import Limits

_DEFAULTS = Limits()


class SessionSettings(Table):
    """``[sessions]``: how long sessions last, and how many may be unauthenticated."""

    unauthenticated_idle_seconds: PositiveFloat = Field(
        default=_DEFAULTS.unauthenticated_idle_seconds,
        description="How long a session without an identity lasts unused.",
    )
    authenticated_idle_seconds: PositiveFloat = Field(
        default=_DEFAULTS.authenticated_idle_seconds,
        description="How long one with an identity does.",
    )
    absolute_seconds: PositiveFloat = Field(
        default=_DEFAULTS.absolute_seconds,
        description="How long any session lasts, however much it is used.",
    )
    tombstone_seconds: PositiveFloat = Field(
        default=_DEFAULTS.tombstone_seconds,
        description="How long a revoked one is told to be revoked, and not unknown.",
    )
    unauthenticated_cap: int = Field(
        default=10_000, ge=1, description="Beyond it the unauthenticated ones made first go."
    )

    def limits(self) -> Limits:
        """The same, for the decision table."""
        return Limits(
            unauthenticated_idle_seconds=self.unauthenticated_idle_seconds,
            authenticated_idle_seconds=self.authenticated_idle_seconds,
            absolute_seconds=self.absolute_seconds,
            tombstone_seconds=self.tombstone_seconds,
        )


class RevocationSettings(Table):
    """``[revocations]``: how long what operators revoked stays revoked."""

    retention_seconds: PositiveFloat = Field(
        default=_DEFAULTS.not_befores_kept_seconds,
        description="Tokens that were issued longer ago are refused: they may have been revoked.",
    )
