"""How long certificates and tokens are valid, and what is worth a warning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

WARNING_SECONDS = 30 * 86_400
WARNING_FRACTION = 0.25
"""A certificate has to be renewed soon when less than both is left: the seconds, and the fraction
of its lifetime. cert-manager renews at a third; a certificate of an hour, as SPIFFE has them, is
renewed at half of it; and one of 30 days for development has 22 days without a warning."""


class State(Enum):
    """Of a certificate."""

    VALID = "valid"
    ENDS_SOON = "ends soon"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Validity:
    """How long a certificate or token is valid.

    Attributes:
        begins: seconds since the epoch; None where it does not say.
        ends: likewise.
    """

    begins: float | None
    ends: float

    def state(self, now: float) -> State:
        """The state of a certificate.

        Args:
            now: seconds since the epoch.
        """
        if self == UNUSABLE:
            return State.UNUSABLE
        if self.ends <= now:
            return State.EXPIRED
        if self.begins is None:
            return State.VALID
        if self.begins > now:
            return State.NOT_YET_VALID
        enough = min(WARNING_SECONDS, WARNING_FRACTION * (self.ends - self.begins))
        return State.ENDS_SOON if self.ends - now < enough else State.VALID

    def described(self, now: float) -> str:
        """What there is to say of a certificate: ``expired on 2026-11-30 12:00:00 UTC``."""
        match self.state(now):
            case State.UNUSABLE:
                return "cannot be used"
            case State.EXPIRED:
                return f"expired on {date_of(self.ends)}"
            case State.NOT_YET_VALID:
                begins = date_of(self.begins or 0.0)
                return f"is not valid before {begins}: is the clock of this machine right?"
            case _:
                return f"expires on {date_of(self.ends)}"


UNUSABLE = Validity(None, 0.0)
"""Of a file that cannot be used: as if it had expired long ago."""


def date_of(when: float) -> str:
    """A point in time, to the second, in UTC.

    Args:
        when: seconds since the epoch.
    """
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
