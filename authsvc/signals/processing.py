"""Receives signals: verifies them, and revokes what they name, durably and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from authsvc.domain.errors import AuthError
from authsvc.domain.revocation_target import RevocationTarget
from authsvc.signals.actions import Action
from authsvc.signals.auditing import refused
from authsvc.signals.errors import SignalError, invalid_request
from authsvc.signals.logout_tokens import verify_logout
from authsvc.signals.observing import Effect, SignalObserver, SignalResult
from authsvc.signals.security_event_tokens import verify_set
from authsvc.signals.signals import Signal, SignalToken
from authsvc.signals.targets import targets_of
from authsvc.signals.verification import SignatureVerifier
from authsvc.stores.received import ReceivedStore

MAX_TARGETS = 64
"""Revocations of one token: each is a write or two."""

MAX_SESSIONS = 1_000
"""Sessions of a subject that a signal reads, in case that one has a token of an issuer whose clock
is ahead. A user may have any number of them: a sign-out must cost no more for it."""

Verify = Callable[[SignatureVerifier, str, float], Awaitable[SignalToken]]


class Revokes(Protocol):
    """Revokes tokens; ``Revocations`` does."""

    async def revoke(
        self,
        target: RevocationTarget,
        *,
        caller: str,
        allow_unknown_issuer: bool = False,
        not_earlier_than: float = 0.0,
        most_sessions: int = ...,
    ) -> object:
        """See ``Revocations.revoke``."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """A token that was received.

    Attributes:
        token: the token.
        effects: of its events, in their order.
    """

    token: SignalToken
    effects: tuple[Effect, ...]

    @property
    def is_repeated(self) -> bool:
        """Whether it had been received before, and had no effect now."""
        return all(it.result is SignalResult.REPEATED for it in self.effects)


class SignalProcessor:
    """Receives the signals of all streams. Belongs to one event loop.

    Once a method returns, what the signal revokes is revoked durably. Where one fails, the sender
    has to send the signal again, which then has its whole effect: a token is marked as received
    after its effect is durable.

    Args:
        verifier: verifies signatures, and has the streams.
        revocations: revokes tokens.
        store: keeps which tokens have been received.
        actions: what each event does, by short name; events that it lacks do nothing.
        observers: are called for each signal, in their order.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        verifier: SignatureVerifier,
        *,
        revocations: Revokes,
        store: ReceivedStore,
        actions: Mapping[str, Action],
        observers: Sequence[SignalObserver],
        clock: Callable[[], float],
    ) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self._store = store
        self._actions = actions
        self._observers = tuple(observers)
        self._clock = clock

    async def receive_set(self, text: str, *, client_address: str) -> Received:
        """Receive a security event token (RFC 8417). One that is repeated has no effect.

        Args:
            text: the bare token.
            client_address: of its sender; empty where it is polled.

        Raises:
            SignalError: it is rejected.
            AuthError: it could not be processed now, and has to be sent again.
        """
        return await self._receive(verify_set, text, client_address)

    async def receive_logout(self, text: str, *, client_address: str) -> Received:
        """Receive a logout token (OpenID Connect Back-Channel Logout 1.0). One that is repeated is
        rejected.

        Args:
            text: the bare token.
            client_address: of its sender.

        Raises:
            SignalError: it is rejected.
            AuthError: it could not be processed now, and has to be sent again.
        """
        received = await self._receive(verify_logout, text, client_address)
        if received.is_repeated:
            raise invalid_request("The token has been received before.")
        return received

    def reject(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """See ``SignalReceiver.reject``."""
        for observer in self._observers:
            observer.rejected(issuer, error, client_address=client_address)

    def refuse(self, setting: str, *, client_address: str) -> None:
        """See ``SignalReceiver.refuse``."""
        refused(setting, client_address=client_address)

    def clock_offsets(self) -> dict[str, float]:
        """The clock of each stream's server of keys minus ours, in seconds, by issuer, where it is
        known."""
        offsets = ((it.issuer, it.keys.clock_offset_seconds) for it in self._verifier.streams)
        return {issuer: offset for issuer, offset in offsets if offset is not None}

    async def refresh(self, now: float) -> bool:
        """Refresh the streams' keys that are due; to be called every few seconds.

        Args:
            now: seconds since the epoch.

        Returns:
            Whether the keys of every stream are available.
        """
        sources = [stream.keys for stream in self._verifier.streams]
        await asyncio.gather(*(source.refresh(now) for source in sources))
        try:
            for source in sources:
                source.current(now)
        except AuthError:
            return False
        return True

    async def _receive(self, verify: Verify, text: str, client_address: str) -> Received:
        began = self._clock()
        try:
            token = await verify(self._verifier, text, began)
            effects = self._effects(token, client_address)
            if await self._store.is_received(token.key):
                effects = [_repeated(effect) for effect in effects]
            else:
                await self._carry_out(token, effects)
        except SignalError as error:
            issuer = self._verifier.claimed_issuer(text)
            self.reject(issuer, error, client_address=client_address)
            raise
        except AuthError as error:
            issuer = self._verifier.claimed_issuer(text)
            for observer in self._observers:
                observer.unavailable(issuer, error)
            raise
        seconds = max(0.0, self._clock() - began)
        received = Received(token, tuple(replace(it, seconds=seconds) for it in effects))
        for signal, effect in zip(token.signals, received.effects, strict=True):
            for observer in self._observers:
                observer.received(token, signal, effect)
        return received

    def _effects(self, token: SignalToken, client_address: str) -> list[Effect]:
        """What the events of a token are to do.

        Raises:
            SignalError: too much for one token.
        """
        effects = [self._effect(token, signal, client_address) for signal in token.signals]
        if sum(len(effect.targets) for effect in effects) > MAX_TARGETS:
            raise invalid_request("The token names too many subjects.")
        return effects

    def _effect(self, token: SignalToken, signal: Signal, client_address: str) -> Effect:
        action = self._actions.get(signal.name, Action.NONE)
        targets = targets_of(action, signal.subject, token.stream)
        result = SignalResult.REVOKED
        if not targets:
            is_none = action is Action.NONE
            result = SignalResult.NONE if is_none else SignalResult.UNKNOWN_SUBJECT
        return Effect(result, action, targets, client_address=client_address)

    async def _carry_out(self, token: SignalToken, effects: Sequence[Effect]) -> None:
        """Revoke what events name, and mark their token as received.

        Raises:
            AuthError: STORE_UNAVAILABLE.
        """
        for signal, effect in zip(token.signals, effects, strict=True):
            for target in effect.targets:
                await self._revocations.revoke(
                    target,
                    caller=f"signals[{token.stream.issuer}]",
                    # The configuration says which issuers the stream may name.
                    allow_unknown_issuer=True,
                    not_earlier_than=signal.time,
                    most_sessions=MAX_SESSIONS,
                )
        await self._store.mark_received(token.key, token.until)


def _repeated(effect: Effect) -> Effect:
    return replace(effect, result=SignalResult.REPEATED, targets=())
