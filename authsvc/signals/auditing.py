"""The audit of signals: what was received and what it did, and what was rejected."""

from __future__ import annotations

import logging
from collections.abc import Callable

from authsvc.audit import security
from authsvc.common.printable import printable
from authsvc.common.token_bucket import TokenBucket
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import session_digest, shown_digest
from authsvc.domain.revocation_target import ProviderSessionTarget, SubjectTarget
from authsvc.signals.errors import SignalError
from authsvc.signals.event_types import OTHER
from authsvc.signals.observing import Effect, SignalResult
from authsvc.signals.signals import Signal, SignalToken, Stream
from authsvc.signals.targets import Target

log = logging.getLogger(__name__)

CALLER = "signals"
"""The caller of events about senders in general, whichever stream is theirs."""

REJECTED_PER_SECOND = 100.0
REJECTED_BURST = 200.0
"""Rejected signals that are audited; more would not inform, and would fill the disk."""

MAX_SHOWN_CHARACTERS = 128
"""How much of an event type or an issuer is shown that is not known here."""

WARNINGS_PER_SECOND = 1 / 60
WARNINGS_BURST = 5.0
"""Warnings that signals name nobody, or cannot be processed: their causes last for a while."""


class SignalAudit:
    """A ``SignalObserver`` that audits. Belongs to one event loop.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        now = clock()
        self._rejected = TokenBucket(REJECTED_PER_SECOND, REJECTED_BURST, now)
        self._warnings = TokenBucket(WARNINGS_PER_SECOND, WARNINGS_BURST, now)

    def received(self, token: SignalToken, signal: Signal, effect: Effect) -> None:
        """See ``SignalObserver.received``."""
        what = _what(token.stream, signal, effect)
        security.signal_received(
            issuer=token.stream.issuer,
            subject=_subject(signal),
            token_id=token.token_id,
            detail=f"{_name(signal)} ({effect.action}): {what}",
            client_address=effect.client_address,
        )
        if effect.result is SignalResult.UNKNOWN_SUBJECT:
            self._warn(token.stream.issuer, f"{signal.name} had no effect: {what}")
        elif effect.result is SignalResult.REVOKED and signal.subject.fault:
            self._warn(token.stream.issuer, f"{signal.name}: {what}")

    def rejected(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """See ``SignalObserver.rejected``."""
        if self._rejected.take(self._clock()) == 0.0:
            claimed = f"; claimed issuer {issuer}" if issuer else ""
            security.signal_rejected(
                detail=f"{error.code}: {error.detail}{claimed}",
                setting=error.setting,
                client_address=client_address,
            )

    def unavailable(self, issuer: str, error: AuthError) -> None:
        """See ``SignalObserver.unavailable``."""
        self._warn(issuer, f"not processed, to be sent again: {error}")

    def _warn(self, issuer: str, text: str) -> None:
        if self._warnings.take(self._clock()) == 0.0:
            log.warning("signals[%s]: %s", issuer, printable(text))


def refused(setting: str, *, client_address: str) -> None:
    """Audit that a sender was answered 429, its request unread. Its caller bounds how often.

    Args:
        setting: of ``[signals]``, the limit that was reached.
        client_address: of the sender.
    """
    security.record(
        security.SecurityEvent(
            security.SecurityEventType.LIMIT_REACHED,
            reason=Reason.OVERLOADED.name,
            caller=CALLER,
            detail="senders of signals are answered 429: a sign-out may be among what they sent",
            setting=f"signals.{setting}",
            client_address=client_address,
        )
    )


def _name(signal: Signal) -> str:
    """The short name of an event's type; the beginning of its URI where it has none."""
    if signal.name != OTHER:
        return signal.name
    return repr(signal.event_type[:MAX_SHOWN_CHARACTERS])


def _what(stream: Stream, signal: Signal, effect: Effect) -> str:
    """What a signal did, or why it did nothing."""
    match effect.result:
        case SignalResult.REVOKED:
            revoked = [f"revoked {_described(target)}" for target in effect.targets]
            return "; ".join([*revoked, *filter(None, [signal.subject.fault])])
        case SignalResult.REPEATED:
            return "received before, without effect"
        case SignalResult.NONE:
            return "nothing"
    if signal.subject.is_known:
        subject = signal.subject
        issuers = {it.issuer for it in subject.users} | {it.issuer for it in subject.tokens}
        named = ", ".join(sorted(repr(issuer[:MAX_SHOWN_CHARACTERS]) for issuer in issuers))
        return f"{stream.table}.applies_to has no {named}"
    return signal.subject.fault


def _described(target: Target) -> str:
    if isinstance(target, ProviderSessionTarget):
        digest = shown_digest(session_digest(target.issuer, target.sid))
        more = (
            ", and tokens of the subject without one"
            if target.subject
            else ", alone: tokens without one are not ended"
        )
        return f"provider session {digest} at {target.issuer}{more}"
    if isinstance(target, SubjectTarget):
        return f"all tokens of the subject at {target.issuer}"
    return f"token {target.token_id} at {target.issuer}"


def _subject(signal: Signal) -> str:
    return signal.subject.users[0].subject if signal.subject.users else ""
