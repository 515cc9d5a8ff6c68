"""The parts that wait for others, with whoever watches around them: store, verifier, broker.

What is answered from memory goes past the watcher: those methods are the watched part's own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractContextManager
from typing import Protocol

from authsvc.credentials import CredentialBroker
from authsvc.domain.events import Event, EventType, RecordFilter
from authsvc.domain.record import Record
from authsvc.domain.resolution import Credentials, Principal, Secret
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.domain.tokens import VerifiedToken
from authsvc.stores import Logged, Page, SessionStore
from authsvc.tokens import TokenVerifier


class Watcher(Protocol):
    """Watches operations."""

    def __call__(self, operation: str, /) -> AbstractContextManager[object]:
        """Around each operation, by its name; it lets every exception pass."""
        ...


class ObservedStore:
    """A ``SessionStore`` whose operations are watched."""

    def __init__(self, store: SessionStore, watch: Watcher) -> None:
        self._store = store
        self._watched = watch
        self.recall = store.recall
        self.cached_not_befores = store.cached_not_befores
        self.close = store.close

    @property
    def ready(self) -> bool:
        """See ``SessionStore``, as for all that follows."""
        return self._store.ready

    async def get(self, session_id: str) -> Record | None:
        with self._watched("get"):
            return await self._store.get(session_id)

    async def put(self, record: Record, event: EventType) -> str | None:
        with self._watched("put"):
            return await self._store.put(record, event)

    async def confirm(self, record: Record) -> None:
        with self._watched("confirm"):
            await self._store.confirm(record)

    async def touch(self, record: Record) -> None:
        with self._watched("touch"):
            await self._store.touch(record)

    async def remove(self, record: Record) -> None:
        with self._watched("remove"):
            await self._store.remove(record)

    async def sweep(self, now: float) -> int:
        with self._watched("sweep"):
            return await self._store.sweep(now)

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        with self._watched("page"):
            return await self._store.page(which, after=after, size=size)

    async def set_not_before(self, not_before: NotBefore) -> str:
        with self._watched("set_not_before"):
            return await self._store.set_not_before(not_before)

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        with self._watched("get_not_befores"):
            return await self._store.get_not_befores(keys)

    async def delete_not_befores(self, set_before: float) -> None:
        with self._watched("delete_not_befores"):
            await self._store.delete_not_befores(set_before)

    async def append(self, event: Event) -> None:
        with self._watched("append"):
            await self._store.append(event)

    async def position(self) -> str:
        with self._watched("position"):
            return await self._store.position()

    def watch(self, position: str = "") -> AsyncGenerator[Logged, None]:
        return self._store.watch(position)


class ObservedVerifier:
    """A ``TokenVerifier`` whose full checks are watched."""

    def __init__(self, verifier: TokenVerifier, watch: Watcher) -> None:
        self._verifier = verifier
        self._watched = watch
        self.recall = verifier.recall
        self.stands = verifier.stands

    async def verify(self, token: str, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier``."""
        with self._watched("verify"):
            return await self._verifier.verify(token, resource=resource, now=now)


class ObservedBroker:
    """A ``CredentialBroker`` that is watched."""

    def __init__(self, broker: CredentialBroker, watch: Watcher) -> None:
        self._broker = broker
        self._watched = watch

    async def issue(
        self, principal: Principal, *, token: Secret, resource: str, now: float
    ) -> Credentials | None:
        """See ``CredentialBroker``."""
        with self._watched("credentials"):
            return await self._broker.issue(principal, token=token, resource=resource, now=now)
