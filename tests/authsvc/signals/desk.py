"""A ``SignalProcessor`` over a store whose behaviour a test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from authsvc.admin.revocations import Revocations
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey
from authsvc.signals.actions import Action, actions_of
from authsvc.signals.auditing import SignalAudit
from authsvc.signals.errors import SignalError
from authsvc.signals.observing import Effect, SignalResult
from authsvc.signals.processing import SignalProcessor
from authsvc.signals.signals import Signal, SignalToken, Stream
from authsvc.stores.memory import MemoryStore
from tests.support.clock import Clock
from tests.support.signals import verifier_of


class Store(MemoryStore):
    """Fails when a test says so, and counts its writes."""

    def __init__(self) -> None:
        super().__init__(unauthenticated_cap=10)
        self.not_befores: list[NotBefore] = []
        self.failing: set[str] = set()
        self.records_read = 0

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise AuthError(Reason.STORE_UNAVAILABLE)

    async def set_not_before(self, not_before: NotBefore) -> str:
        self._check("set_not_before")
        self.not_befores.append(not_before)
        return await super().set_not_before(not_before)

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        found = await super().records_of(issuer, subject, most=most)
        self.records_read += len(found)
        return found

    async def is_received(self, key: str) -> bool:
        self._check("is_received")
        return await super().is_received(key)

    async def mark_received(self, key: str, until: float) -> None:
        self._check("mark_received")
        await super().mark_received(key, until)


@dataclass
class Seen:
    """A ``SignalObserver`` that keeps what it was called with."""

    effects: list[tuple[str, Effect]] = field(default_factory=list)
    rejections: list[tuple[str, SignalError, str]] = field(default_factory=list)
    unavailable_for: list[tuple[str, AuthError]] = field(default_factory=list)

    def received(self, token: SignalToken, signal: Signal, effect: Effect) -> None:
        self.effects.append((signal.name, effect))

    def rejected(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        self.rejections.append((issuer, error, client_address))

    def unavailable(self, issuer: str, error: AuthError) -> None:
        self.unavailable_for.append((issuer, error))

    @property
    def results(self) -> list[SignalResult]:
        return [effect.result for _, effect in self.effects]


class Desk:
    """A processor of streams and its parts."""

    def __init__(
        self, clock: Clock, *streams: Stream, actions: Mapping[str, Action] | None = None
    ) -> None:
        self.clock = clock
        self.store = Store()
        self.seen = Seen()
        self.processor = SignalProcessor(
            verifier_of(*streams),
            revocations=Revocations(
                self.store, end_session=_ends_nothing, issuers=lambda _: (), clock=clock
            ),
            store=self.store,
            actions=actions_of(actions or {}),
            observers=(self.seen, SignalAudit(clock)),
            clock=clock,
        )

    async def receive_set(self, text: str) -> list[SignalResult]:
        received = await self.processor.receive_set(text, client_address="192.0.2.7")
        return [effect.result for effect in received.effects]

    async def receive_logout(self, text: str) -> list[SignalResult]:
        received = await self.processor.receive_logout(text, client_address="192.0.2.7")
        return [effect.result for effect in received.effects]

    @property
    def keys(self) -> list[NotBeforeKey]:
        """Of the not-befores that were set, in their order."""
        return [it.key for it in self.store.not_befores]


async def _ends_nothing(session_id: str, *, caller: str) -> str:
    raise AssertionError("no session is ended here")
