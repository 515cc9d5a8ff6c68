"""The signing keys of a running service: read from the store, rotated there, and published."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from authsvc.assertions.key_set import KeySet, KeySetFormatError
from authsvc.assertions.keys import SigningKey
from authsvc.assertions.sealing import Seal, SealError
from authsvc.audit import security
from authsvc.domain.errors import AuthError, Reason
from authsvc.stores.documents import Document, DocumentStore

log = logging.getLogger(__name__)

DOCUMENT_NAME = "assertion-keys"
"""Under which name the store keeps the keys."""

REFRESH_SECONDS = 10.0
"""How often the keys are read from the store."""

MAX_AGE_SECONDS = 600.0
"""How old the keys may be when they are used or published. A replica that cannot read newer ones
for longer neither signs nor publishes: it could not know that a key was withdrawn, or that another
one is about to sign. Far shorter than ``key_set.ahead_seconds``."""

MAX_ATTEMPTS = 16
"""How often a write may lose the compare-and-set."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Keys in use.

    Attributes:
        keys: the key set.
        jwks: its public keys, encoded.
        stored: what they were read from, or written as.
        time: when they were read; seconds since the epoch.
    """

    keys: KeySet
    jwks: bytes
    stored: Document
    time: float


class KeyRing:
    """Signing keys that all replicas agree on: the store has one set, written under
    compare-and-set.

    Args:
        store: keeps the keys.
        seal: encrypts them there.
        rotation_seconds: how long a key signs.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: DocumentStore,
        seal: Seal,
        *,
        rotation_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._seal = seal
        self._rotation_seconds = rotation_seconds
        self._clock = clock
        self._loaded: _Loaded | None = None
        self._known_ids: frozenset[str] = frozenset()
        self._failure = ""

    async def load(self) -> None:
        """Read the keys. If there are none, or the next key is due, write a new set first.

        Raises:
            AuthError: STORE_UNAVAILABLE; CONFLICT: other replicas wrote each time. The keys that
                were read last stay in use until they are too old.
            SealError: the keys cannot be decrypted, and none is in use any more; or new ones cannot
                be encrypted, and the last ones stay in use.
            KeySetFormatError: they cannot be read, and none is in use any more.
        """
        for _ in range(MAX_ATTEMPTS):
            now = self._clock()
            stored = await self._store.document(DOCUMENT_NAME)
            if stored is not None:
                await self._use(stored, now)
            wanted = self._wanted(stored, now)
            if stored is not None and self._loaded is not None and wanted == self._loaded.keys:
                return
            sealed = self._seal.seal(DOCUMENT_NAME, wanted.encoded())
            document = Document.after(stored, sealed)
            if await self._store.put_document(DOCUMENT_NAME, document):
                self._take(wanted, document, now)
                log.info("assertions: new keys are stored", extra={"key_ids": wanted.key_ids})
                return
        raise AuthError(Reason.CONFLICT, f"{DOCUMENT_NAME} was written by others at each attempt")

    async def refresh(self) -> None:
        """As ``load``, for a running service: a failure is logged, once for as long as it stays the
        same."""
        try:
            await self.load()
        except AuthError as error:
            failure = str(error)
        except (SealError, KeySetFormatError) as error:
            failure = f"assertions.encryption_key_file: {error}"
        else:
            failure = ""
        if failure and failure != self._failure:
            log.error("the keys of assertions cannot be loaded: %s", failure)
        elif self._failure and not failure:
            log.info("the keys of assertions are loaded again")
        self._failure = failure

    @property
    def ready(self) -> bool:
        """Whether there are keys that are new enough to be used."""
        return self._usable(self._clock()) is not None

    def signing_key(self, now: float) -> SigningKey:
        """The key that signs.

        Raises:
            AuthError: KEYS_UNAVAILABLE.
        """
        return self._current(now).keys.signing(now)

    def ages(self) -> tuple[float, float] | None:
        """How long ago the keys were read, and how long the one that signs has done so, in seconds.
        None without keys. For any thread."""
        loaded, now = self._loaded, self._clock()
        if loaded is None:
            return None
        return now - loaded.time, now - loaded.keys.signing(now).sign_time

    def jwks(self) -> bytes:
        """The JWK Set. For any thread.

        Raises:
            AuthError: KEYS_UNAVAILABLE.
        """
        return self._current(self._clock()).jwks

    def _current(self, now: float) -> _Loaded:
        loaded = self._usable(now)
        if loaded is None:
            raise AuthError(
                Reason.KEYS_UNAVAILABLE,
                "there are no keys for assertions",
                retry_after_seconds=REFRESH_SECONDS,
            )
        return loaded

    def _usable(self, now: float) -> _Loaded | None:
        loaded = self._loaded
        return loaded if loaded is not None and now <= loaded.time + MAX_AGE_SECONDS else None

    async def _use(self, stored: Document, now: float) -> None:
        """Use what is stored. Where it is what was read before, it is neither confirmed nor
        decrypted again."""
        loaded = self._loaded
        if loaded is not None and loaded.stored == stored:
            self._loaded = _Loaded(loaded.keys, loaded.jwks, stored, now)
            return
        # A failover may undo a write that is not confirmed, and with it a key that signs.
        await self._store.confirm_document(DOCUMENT_NAME)
        # Without the new keys, the old ones must not be used: they may have been withdrawn.
        self._loaded = None
        keys = KeySet.decoded(self._seal.open(DOCUMENT_NAME, stored.content))
        self._take(keys, stored, now)
        if loaded is not None and stored.revision < loaded.stored.revision:
            log.warning(
                "assertions: the store has older keys than before: a failover or a restored backup"
            )
        log.info("assertions: keys were read", extra={"key_ids": keys.key_ids})

    def _take(self, keys: KeySet, stored: Document, now: float) -> None:
        """Use keys that were read or written. Some of those before are among them, unless they were
        all replaced: by an operator, or by somebody else who writes to the store."""
        self._loaded = _Loaded(keys, keys.jwks(), stored, now)
        if self._known_ids and self._known_ids.isdisjoint(keys.key_ids):
            security.keys_replaced(keys.key_ids)
        self._known_ids = frozenset(keys.key_ids)

    def _wanted(self, stored: Document | None, now: float) -> KeySet:
        """The set that the store should have."""
        if self._loaded is None:
            return KeySet.generated(now)
        if stored is None:
            # It was lost with the store's content. Verifiers have the keys in use.
            log.warning("assertions: the store has lost its keys, and gets those in use")
        return self._loaded.keys.rotated(now, self._rotation_seconds)


async def replace_keys(store: DocumentStore, seal: Seal, now: float) -> SigningKey:
    """Replace all keys by a new one, which signs at once; the others are withdrawn, unread.

    Returns:
        The new key.

    Raises:
        AuthError: STORE_UNAVAILABLE, CONFLICT.
        SealError: the new key cannot be encrypted.
    """
    keys = KeySet.generated(now)
    sealed = seal.seal(DOCUMENT_NAME, keys.encoded())
    for _ in range(MAX_ATTEMPTS):
        stored = await store.document(DOCUMENT_NAME)
        if await store.put_document(DOCUMENT_NAME, Document.after(stored, sealed)):
            return keys.keys[0]
    raise AuthError(Reason.CONFLICT, f"{DOCUMENT_NAME} was written by others at each attempt")
