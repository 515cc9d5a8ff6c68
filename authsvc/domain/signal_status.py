"""The status of a stream of signals, as operators see it. Pure; no token, ``sid`` or subject."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol, Self, TypeVar

from authsvc.domain.digests import text_digest

MAX_VERIFICATIONS = 8
"""Verification events that a status keeps: several operators may test a stream at once."""

FAILURE_SECONDS = 3_600.0
"""How long a signal that could not be processed is a problem, where none has come after it: senders
repeat it until then, as a rule."""


class StreamState(Enum):
    """Whether a transmitter sends events (SSF 1.0 section 8.1.2). Values are those of the proto."""

    ENABLED = 1
    PAUSED = 2
    DISABLED = 3


@dataclass(frozen=True, slots=True)
class StreamChange:
    """An event ``stream-updated``.

    Attributes:
        time: when it was issued, in seconds since the epoch.
        state: since then.
        reason: the transmitter's, bounded and printable; empty where it gave none.
    """

    time: float
    state: StreamState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A valid event that was received for the first time.

    Attributes:
        time: when, in seconds since the epoch.
        name: the short name of its type.
        result: what became of it, as ``SignalResult`` has it.
    """

    time: float
    name: str
    result: str


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """Something that failed.

    Attributes:
        time: when, in seconds since the epoch.
        text: why, in our words.
    """

    time: float
    text: str


@dataclass(frozen=True, slots=True)
class StreamVerification:
    """A verification event (SSF 1.0 section 8.1.4).

    Attributes:
        time: when it was received, in seconds since the epoch.
        state_digest: ``state_digest`` of its state; empty where it has none.
    """

    time: float
    state_digest: str = ""


class _Timed(Protocol):
    @property
    def time(self) -> float: ...


TimedT = TypeVar("TimedT", bound=_Timed)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """What is known of a stream. Whatever has not happened yet is None.

    Attributes:
        issuer: of the stream.
        is_polled: whether its SETs are polled here; else it pushes them, or sends logout tokens.
        change: the newest change of its state; without one, it is enabled.
        last_event: the newest event.
        last_rejection: the newest rejected token that claimed to be of it. Anybody can send one.
        last_failure: the newest token that could not be processed, and has to be sent again.
        last_poll_time: of a poll that succeeded, to within some seconds; since the epoch.
        poll_failure: the newest poll that failed.
        verifications: the newest verification events, the newest first.
    """

    issuer: str
    is_polled: bool = False
    change: StreamChange | None = None
    last_event: StreamEvent | None = None
    last_rejection: StreamFailure | None = None
    last_failure: StreamFailure | None = None
    last_poll_time: float | None = None
    poll_failure: StreamFailure | None = None
    verifications: tuple[StreamVerification, ...] = ()

    @property
    def state(self) -> StreamState:
        """Whether its transmitter sends events, as far as it has reported."""
        return StreamState.ENABLED if self.change is None else self.change.state

    @property
    def polls_fail(self) -> bool:
        """Whether its newest poll has failed."""
        if not self.is_polled or self.poll_failure is None:
            return False
        return self.last_poll_time is None or self.last_poll_time < self.poll_failure.time

    def problem(self, now: float) -> str:
        """Why its signals may be missing, for people; empty where nothing is known to be wrong.

        A rejected token is none: anybody can send one.

        Args:
            now: seconds since the epoch.
        """
        if self.state is not StreamState.ENABLED:
            return f"its transmitter has {self.state.name.lower()} it"
        if self.polls_fail:
            return "polls fail"
        failure, event = self.last_failure, self.last_event
        if failure is None or now - failure.time > FAILURE_SECONDS:
            return ""
        is_past = event is not None and event.time >= failure.time
        return "" if is_past else "signals could not be processed"

    def merged(self, other: Self) -> Self:
        """The status of both together: the newest of each member."""
        found = {*self.verifications, *other.verifications}
        in_order = sorted(found, key=lambda it: (it.time, it.state_digest), reverse=True)
        times = [it for it in (self.last_poll_time, other.last_poll_time) if it is not None]
        return replace(
            self,
            change=_newest(self.change, other.change),
            last_event=_newest(self.last_event, other.last_event),
            last_rejection=_newest(self.last_rejection, other.last_rejection),
            last_failure=_newest(self.last_failure, other.last_failure),
            last_poll_time=max(times, default=None),
            poll_failure=_newest(self.poll_failure, other.poll_failure),
            verifications=tuple(in_order[:MAX_VERIFICATIONS]),
        )


def _newest(one: TimedT | None, other: TimedT | None) -> TimedT | None:
    if one is None or other is None:
        return one or other
    return other if one.time < other.time else one


def state_digest(state: str) -> str:
    """The digest of the state of a verification event: 43 characters of base64url."""
    return text_digest(state)
