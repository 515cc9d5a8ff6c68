"""Store, verifier and broker with an observer around each operation that waits for another part.

Cache lookups are not observed: they are the observed object's own methods.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import contextmanager

from authsvc.credentials import CredentialBroker
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Record
from authsvc.domain.resolution import Credentials, Principal, Secret
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from authsvc.domain.service_status import SessionCounts, StoreSpace
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.stores import LoggedEvent, Page, SessionStore
from authsvc.stores.documents import Document
from authsvc.stores.writes import WriteState
from authsvc.telemetry.counts import NONE, Timed
from authsvc.telemetry.spans import OperationObserver
from authsvc.tokens import TokenVerifier


class ObservedStore:
    """A ``SessionStore`` whose operations are observed. It tells failed writes from other failures.

    Args:
        store: the store.
        observer: of its operations.
        writes: is told which writes work.
    """

    def __init__(
        self, store: SessionStore, observer: OperationObserver, writes: WriteState
    ) -> None:
        self._store = store
        self._observe = observer
        self._writes = writes
        self.cached_record = store.cached_record
        self.cached_not_befores = store.cached_not_befores
        self.close = store.close
        self.server_times = store.server_times

    @property
    def ready(self) -> bool:
        """See ``SessionStore``, as for the other methods."""
        return self._store.ready

    async def get(self, session_id: str) -> Record | None:
        with self._observe("get"):
            return await self._store.get(session_id)

    async def put(self, record: Record, event: EventType) -> str | None:
        with self._writing("put"):
            token = await self._store.put(record, event)
        if token is not None:
            self._writes.worked()
        return token

    async def confirm(self, record: Record) -> None:
        with self._writing("confirm"):
            await self._store.confirm(record)

    async def touch(self, record: Record) -> None:
        with self._observe("touch"):
            await self._store.touch(record)

    async def remove(self, record: Record) -> None:
        with self._writing("remove"):
            await self._store.remove(record)

    async def sweep(self, now: float) -> int:
        with self._writing("sweep"):
            return await self._store.sweep(now)

    async def page(self, which: RecordFilter, *, after: str = "", size: int) -> Page:
        with self._observe("page"):
            return await self._store.page(which, after=after, size=size)

    async def records_of(self, issuer: str, subject: str, *, most: int) -> list[Record]:
        with self._observe("records_of"):
            return await self._store.records_of(issuer, subject, most=most)

    async def count(self, now: float) -> SessionCounts:
        with self._observe("count"):
            return await self._store.count(now)

    async def space(self) -> StoreSpace | None:
        with self._observe("space"):
            return await self._store.space()

    async def set_not_before(self, not_before: NotBefore) -> str:
        with self._writing("set_not_before"):
            token = await self._store.set_not_before(not_before)
        self._writes.worked()
        return token

    async def get_not_befores(self, keys: Collection[NotBeforeKey]) -> NotBefores:
        with self._observe("get_not_befores"):
            return await self._store.get_not_befores(keys)

    async def delete_not_befores(self, set_before: float) -> None:
        with self._writing("delete_not_befores"):
            await self._store.delete_not_befores(set_before)

    async def document(self, name: str) -> Document | None:
        with self._observe("document"):
            return await self._store.document(name)

    async def confirm_document(self, name: str) -> None:
        with self._writing("confirm_document"):
            await self._store.confirm_document(name)

    async def put_document(self, name: str, document: Document) -> bool:
        with self._writing("put_document"):
            is_written = await self._store.put_document(name, document)
        if is_written:
            self._writes.worked()
        return is_written

    async def is_received(self, key: str) -> bool:
        with self._observe("is_received"):
            return await self._store.is_received(key)

    async def mark_received(self, key: str, until: float) -> None:
        with self._writing("mark_received"):
            await self._store.mark_received(key, until)
        self._writes.worked()

    async def append(self, event: SessionEvent) -> None:
        with self._observe("append"):
            await self._store.append(event)

    async def position(self) -> str:
        with self._observe("position"):
            return await self._store.position()

    def watch(self, position: str = "") -> AsyncGenerator[LoggedEvent, None]:
        return self._store.watch(position)

    @contextmanager
    def _writing(self, operation: str) -> Iterator[None]:
        """Observe a write, and mark its failure as that of a write."""
        try:
            with self._observe(operation):
                yield
        except AuthError as error:
            if error.reason is Reason.STORE_UNAVAILABLE:
                error.of_write = True
                self._writes.failed(error)
            raise


STORE_OPERATIONS = tuple(
    name for name, it in vars(ObservedStore).items() if inspect.iscoroutinefunction(it)
)
"""Operations of a store that are observed, by the label of their metrics."""


class ObservedVerifier:
    """A ``TokenVerifier`` whose verifications are observed."""

    def __init__(self, verifier: TokenVerifier, observer: OperationObserver) -> None:
        self._verifier = verifier
        self._observe = observer
        self.cached = verifier.cached
        self.is_valid = verifier.is_valid
        self.needs_keys_alone = verifier.needs_keys_alone

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier``."""
        with self._observe("verify"):
            return await self._verifier.verify(token, resource=resource, now=now)


class ObservedBroker:
    """A ``CredentialBroker`` whose operations are observed.

    Args:
        broker: the broker.
        observers: by the name of the credentials.
        otherwise: of names that are in none of its tables.
    """

    def __init__(
        self,
        broker: CredentialBroker,
        observers: Mapping[str, OperationObserver],
        otherwise: OperationObserver,
    ) -> None:
        self._broker = broker
        self._observers = observers
        self._otherwise = otherwise

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        """See ``CredentialBroker``."""
        with self._observers.get(wanted.name, self._otherwise)("credentials") as observed:
            issued = await self._broker.issue(
                principal, token=token, resource=resource, now=now, wanted=wanted
            )
            if issued is None and isinstance(observed, Timed):
                observed.result = NONE
            return issued
