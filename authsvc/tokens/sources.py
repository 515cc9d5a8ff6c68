"""Where an issuer's keys come from, and how news of them get here: files that are watched, and URLs
that are fetched ahead of time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.keys import KeyLoadError, KeySet, SkippedKey

log = logging.getLogger(__name__)

WATCH_INTERVAL_SECONDS = 1.0
"""How often files are looked at."""

COOL_DOWN_SECONDS = 30.0
"""A key that is not there triggers one fetch in this time, however many tokens name it."""

RETRY_SECONDS = 5.0
"""How soon a failed fetch is tried again, ahead of need."""


class KeySource(Protocol):
    """An issuer's keys, as far as they are known here."""

    @property
    def failure(self) -> str:
        """Why newer keys could not be read or fetched; empty if they could. Never material."""
        ...

    def current(self, now: float) -> KeySet:
        """The keys, without waiting.

        Raises:
            AuthError: KEYS_UNAVAILABLE when there are none, or none that could still be trusted.
        """
        ...

    async def renew(self, now: float) -> bool:
        """Look for newer keys, because a token names one that is not there.

        Returns:
            Whether it is worth to look again.

        Raises:
            AuthError: KEYS_UNAVAILABLE when the source is out of reach, so that nobody can tell.
        """
        ...

    async def refresh(self, now: float) -> None:
        """Look for newer keys if that is due. Never raises what is the source's fault."""
        ...


class _SkippedLog:
    """Logs each skipped entry of an issuer's JWK Set once, and not at every fetch.

    Args:
        where: what the set is, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._logged: frozenset[SkippedKey] = frozenset()

    def note(self, keys: KeySet) -> None:
        """Log what is skipped now and was not before."""
        for entry in keys.skipped:
            if entry not in self._logged:
                level = logging.WARNING if entry.is_odd else logging.INFO
                log.log(level, "%s: skipped a key: %s", self._where, entry)
        if not keys.keys:
            log.error("%s: no key is left; all of its tokens are rejected", self._where)
        self._logged = frozenset(keys.skipped)


class WatchedFiles:
    """Keys from files. A change counts within ``WATCH_INTERVAL_SECONDS``.

    What the files hold is the truth at once: a key that is not there any more is trusted no more,
    whatever else is wrong with them. Files that cannot be read, or hold no JWK Set and no secret at
    all, leave the last keys in force, which is logged; they are read again until they can be.

    Args:
        paths: the files.
        load: reads them.

    Raises:
        KeyLoadError: the files are unfit at the start, or hold no key.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], KeySet]) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._where = ", ".join(map(str, self._paths))
        self._stamp = self._stamped()
        self._keys = load()
        try:
            self._keys.check_usable()
        except KeyLoadError as error:
            raise KeyLoadError(f"{self._where}: {error}") from None
        self._skipped = _SkippedLog(self._where)
        self._skipped.note(self._keys)
        self.failure = ""
        self._looked = float("-inf")

    def current(self, now: float) -> KeySet:
        """See ``KeySource.current``."""
        if not 0 <= now - self._looked < WATCH_INTERVAL_SECONDS:
            self._looked = now
            self._look()
        return self._keys

    async def renew(self, now: float) -> bool:
        """See ``KeySource.renew``."""
        before = self._keys
        self._look()
        return self._keys is not before

    async def refresh(self, now: float) -> None:
        """See ``KeySource.refresh``."""
        self.current(now)

    def _look(self) -> None:
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        try:
            keys = self._load()
        except KeyLoadError as error:
            # The stamp stays: permissions, say, are mended without a new time of writing.
            if str(error) != self.failure:
                log.error("keys have changed and are unfit, the old ones stay: %s", error)
            self.failure = str(error)
            return
        self._stamp, self.failure = stamp, keys.failure
        if keys == self._keys:
            return  # what is new in the files was rejected, or is the same again
        self._keys = keys
        log.info("keys reloaded from %s", self._where)
        self._skipped.note(self._keys)

    def _stamped(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # The last for permissions, which may be what kept the file from being read.
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch brought.

    Attributes:
        keys: the keys.
        max_age_seconds: how long they are fresh.
    """

    keys: KeySet
    max_age_seconds: float


class FetchedKeys:
    """Keys from a URL: fetched ahead of time, kept through an outage, never fetched in a storm.

    A JWK Set that was fetched is the truth at once, whatever is wrong with some of its entries, and
    even if none is left. No JWK Set at all is an outage.

    Args:
        issuer: whose, for logs.
        fetch: brings them; raises ``KeyLoadError`` or ``AuthError`` when it cannot.
        max_stale_seconds: how long the last good ones are trusted while nothing newer can be had.
    """

    def __init__(
        self,
        issuer: str,
        fetch: Callable[[], Awaitable[Fetched]],
        *,
        max_stale_seconds: float,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._max_stale_seconds = max_stale_seconds
        self._fetched: Fetched | None = None
        self._fetched_time = float("-inf")
        self._tried_time = float("-inf")
        self.failure = ""
        self._fetching: asyncio.Task[None] | None = None
        self._skipped = _SkippedLog(f"keys of {issuer}")

    def current(self, now: float) -> KeySet:
        """See ``KeySource.current``."""
        if self._fetched is None or now - self._fetched_time > self._max_stale_seconds:
            raise AuthError(Reason.KEYS_UNAVAILABLE, f"no keys of {self._issuer}")
        return self._fetched.keys

    async def renew(self, now: float) -> bool:
        """See ``KeySource.renew``."""
        asked_before = self._fetching is not None
        if asked_before or now - self._tried_time >= COOL_DOWN_SECONDS:
            await self._fetch_once(now)
            looked = True
        else:
            looked = False
        if self.failure:
            detail = f"{self._issuer} cannot be asked for its keys"
            raise AuthError(Reason.KEYS_UNAVAILABLE, detail, counts_as_refused=True)
        return looked

    async def refresh(self, now: float) -> None:
        """See ``KeySource.refresh``."""
        if self._fetched is None or self.failure:
            due = now - self._tried_time >= RETRY_SECONDS
        else:
            # Ahead of the end of trust, too, however long the issuer calls them fresh.
            fresh_seconds = min(self._fetched.max_age_seconds, self._max_stale_seconds / 2)
            due = now - self._fetched_time >= fresh_seconds
        if due:
            await self._fetch_once(now)

    async def _fetch_once(self, now: float) -> None:
        """One fetch for all who ask while it is under way; one who leaves does not end it."""
        if self._fetching is None:
            self._tried_time = now
            self._fetching = asyncio.create_task(self._fetch_now(now), name="fetch keys")
        await asyncio.shield(self._fetching)

    async def _fetch_now(self, now: float) -> None:
        try:
            self._fetched = await self._fetch()
        except (KeyLoadError, AuthError) as error:
            self.failure = str(error)
            log.error("keys of %s cannot be fetched, the old ones stay: %s", self._issuer, error)
        else:
            self.failure = ""
            self._fetched_time = now
            self._skipped.note(self._fetched.keys)
        finally:
            self._fetching = None
