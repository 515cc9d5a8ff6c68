"""What became of signals, for audit, metrics and status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from authsvc.domain.errors import AuthError
from authsvc.signals.actions import Action
from authsvc.signals.errors import SignalError
from authsvc.signals.signals import Signal, SignalToken
from authsvc.signals.targets import Target


class SignalResult(StrEnum):
    """What became of a signal."""

    REVOKED = "revoked"
    NONE = "none"
    """Its action is none, or it is about the stream itself."""

    UNKNOWN_SUBJECT = "unknown_subject"
    """It names nobody, or nobody whom its stream may name."""

    REPEATED = "repeated"
    """It was received before, and has no second effect."""

    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    """The store or the stream's keys were unavailable: its sender has to send it again."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of an event that was received.

    Attributes:
        result: neither REJECTED nor UNAVAILABLE.
        action: what events of its type do.
        targets: what was revoked.
        seconds: from its receipt until its effect was durable.
        client_address: of its sender; empty where it was polled.
    """

    result: SignalResult
    action: Action
    targets: tuple[Target, ...] = ()
    seconds: float = 0.0
    client_address: str = ""


class SignalObserver(Protocol):
    """Is called for each signal, once its effect is durable. Does not wait, and does not raise."""

    def received(self, token: SignalToken, signal: Signal, effect: Effect) -> None:
        """An event of a verified token had this effect."""
        ...

    def rejected(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """A token was rejected.

        Args:
            issuer: of the stream that it claims to be of, not verified; empty for none.
            error: why.
            client_address: of its sender; empty where it was polled.
        """
        ...

    def unavailable(self, issuer: str, error: AuthError) -> None:
        """A token could not be processed; ``issuer`` as in ``rejected``."""
        ...
