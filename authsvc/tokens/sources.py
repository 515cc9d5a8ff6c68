"""The sources of an issuer's keys: files that are watched, and URLs that are fetched ahead of
need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from authsvc.common.rarely import Rarely
from authsvc.domain.errors import AuthError, Reason, of_setting
from authsvc.domain.service_status import SkippedKey
from authsvc.net.clocks import http_offset
from authsvc.net.failures import Stage
from authsvc.net.watched_file import NewEntries, WatchedFile
from authsvc.tokens.keys import KeyLoadError, KeySet

log = logging.getLogger(__name__)

COOL_DOWN_SECONDS = 30.0
"""An unknown key causes at most one fetch in this time, however many tokens name it."""

RETRY_SECONDS = 5.0
"""How soon a failed fetch is tried again, ahead of need."""


def table_of(issuer: str) -> str:
    """The table of the configuration that an issuer's settings are in."""
    return f"issuers[{issuer}]"


class KeySource(Protocol):
    """Provides an issuer's keys."""

    @property
    def failure(self) -> str:
        """Why newer keys could not be read or fetched; empty if they could. No key material."""
        ...

    @property
    def clock_offset_seconds(self) -> float | None:
        """The clock of the server that they come from, minus ours; None where it is unknown."""
        ...

    def current(self, now: float) -> KeySet:
        """The keys, without waiting.

        Raises:
            AuthError: KEYS_UNAVAILABLE when there are none, or none recent enough to be trusted.
        """
        ...

    async def renew(self, now: float) -> bool:
        """Look for newer keys, because a token names an unknown one.

        Returns:
            Whether the keys may have changed.

        Raises:
            AuthError: KEYS_UNAVAILABLE when the source is unreachable, so that the key may exist.
        """
        ...

    async def refresh(self, now: float) -> None:
        """Look for newer keys if that is due. Failures of the source are not raised."""
        ...


FAILURE_LOG_SECONDS = 60.0
"""How often a line repeats that the keys of an issuer cannot be fetched, for the same cause."""


class _SkippedLog:
    """Logs each skipped entry of an issuer's JWK Set once, and not at every fetch.

    Args:
        where: what the set is, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._skipped: NewEntries[SkippedKey] = NewEntries()

    def note(self, keys: KeySet) -> None:
        """Log the entries that are skipped and were not before."""
        for entry in self._skipped.of(keys.skipped):
            level = logging.WARNING if entry.is_invalid else logging.INFO
            log.log(level, "%s: skipped a key: %s", self._where, entry)
        if not keys.keys:
            log.error("%s: no key is left; all of its tokens are rejected", self._where)


class FileKeys:
    """Keys from files. A change takes effect within ``WATCH_INTERVAL_SECONDS``.

    A key that is removed from its file is not trusted any more, whatever else is wrong with the
    files. If the files cannot be read, or hold neither a JWK Set nor a secret, the last keys stay
    in force and the failure is logged; the files are read again until they are valid.

    Args:
        paths: the files.
        load: reads them.

    Raises:
        KeyLoadError: the files are invalid at the start, or hold no key.
    """

    clock_offset_seconds = None
    """See ``KeySource``: a file has no clock."""

    def __init__(self, paths: Sequence[Path], load: Callable[[], KeySet]) -> None:
        self._files = WatchedFile(*paths)
        self._load = load
        self._where = ", ".join(map(str, paths))
        self._keys = load()
        try:
            self._keys.check_usable()
        except KeyLoadError as error:
            raise KeyLoadError(f"{self._where}: {error}") from None
        self._skipped = _SkippedLog(self._where)
        self._skipped.note(self._keys)
        self.failure = ""

    def current(self, now: float) -> KeySet:
        """See ``KeySource.current``."""
        if self._files.changed(now):
            self._reload()
        return self._keys

    async def renew(self, now: float) -> bool:
        """See ``KeySource.renew``."""
        before = self._keys
        if self._files.changed_now():
            self._reload()
        return self._keys is not before

    async def refresh(self, now: float) -> None:
        """See ``KeySource.refresh``."""
        self.current(now)

    def _reload(self) -> None:
        try:
            keys = self._load()
        except KeyLoadError as error:
            if str(error) != self.failure:
                log.error("keys have changed and are invalid, the old ones stay in use: %s", error)
            self.failure = str(error)
            return
        self._files.mark_read()
        self.failure = keys.failure
        if keys == self._keys:
            return  # what is new in the files is invalid, or equal
        self._keys = keys
        log.info("keys reloaded from %s", self._where)
        self._skipped.note(self._keys)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of a fetch.

    Attributes:
        keys: the keys.
        max_age_seconds: how long they are fresh.
        server_epoch: the time on the server's clock, in seconds since the epoch, when
            ``time.monotonic()`` was 0 here; None where its clock is unknown.
    """

    keys: KeySet
    max_age_seconds: float
    server_epoch: float | None = None


class FetchedKeys:
    """Keys from a URL: fetched ahead of need, at a limited rate, and kept during an outage.

    A fetched JWK Set replaces the last one at once, even if some of its entries are invalid or none
    is left. A response that is no JWK Set counts as an outage.

    Args:
        issuer: the issuer, for logs.
        fetch: fetches the keys; raises ``KeyLoadError`` or ``AuthError`` when it cannot.
        max_stale_seconds: how long the last keys are trusted during an outage.
        url_setting: the setting that has the URL; empty where none has it.
        table: the table of the configuration with the settings; empty for the issuer's.
    """

    def __init__(
        self,
        issuer: str,
        fetch: Callable[[], Awaitable[Fetched]],
        *,
        max_stale_seconds: float,
        url_setting: str = "",
        table: str = "",
    ) -> None:
        self._issuer = issuer
        self._table = table or table_of(issuer)
        self._url_setting = url_setting
        self._fetch = fetch
        self._max_stale_seconds = max_stale_seconds
        self._fetched: Fetched | None = None
        self._fetched_time = float("-inf")
        self._tried_time = self._renewed_time = float("-inf")
        self.failure = self._setting = ""
        self.clock_offset_seconds: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._skipped = _SkippedLog(f"keys of {issuer}")
        self._failures = Rarely(FAILURE_LOG_SECONDS)

    def current(self, now: float) -> KeySet:
        """See ``KeySource.current``."""
        if self._fetched is None or not self._is_recent(now):
            raise self._unavailable(f"no keys of {self._issuer}")
        return self._fetched.keys

    async def renew(self, now: float) -> bool:
        """See ``KeySource.renew``."""
        asked_before = self._fetching is not None
        # A fetch that was due does not count: its issuer may have published the key just after it.
        if asked_before or now - self._renewed_time >= COOL_DOWN_SECONDS:
            self._renewed_time = now
            await self._fetch_once(now)
            looked = True
        else:
            looked = False
        if self.failure:
            detail = f"the keys of {self._issuer} cannot be fetched"
            raise self._unavailable(detail, counts_as_rejected=True)
        return looked

    async def refresh(self, now: float) -> None:
        """See ``KeySource.refresh``."""
        if self._fetched is None or self.failure:
            due = now - self._tried_time >= RETRY_SECONDS
        else:
            # Before the keys become untrusted, too, even if the issuer calls them fresh for longer.
            fresh_seconds = min(self._fetched.max_age_seconds, self._max_stale_seconds / 2)
            due = now - self._fetched_time >= fresh_seconds
        if due:
            await self._fetch_once(now)

    def _is_recent(self, now: float) -> bool:
        """Whether there are keys, recent enough to be trusted."""
        return now - self._fetched_time <= self._max_stale_seconds

    def _unavailable(self, detail: str, *, counts_as_rejected: bool = False) -> AuthError:
        """With what the places of the keys answered, and the setting that mends it."""
        return AuthError(
            Reason.KEYS_UNAVAILABLE,
            f"{detail}: {self.failure}" if self.failure else detail,
            setting=self._setting,
            counts_as_rejected=counts_as_rejected,
        )

    def _url_setting_of(self, error: KeyLoadError | AuthError) -> str:
        """The setting that has the URL, if another one may mend the failure."""
        is_certificate = isinstance(error, KeyLoadError) and error.stage is Stage.TLS
        return "" if is_certificate else self._url_setting

    async def _fetch_once(self, now: float) -> None:
        """One fetch for all concurrent callers; a caller that is cancelled does not cancel it."""
        if self._fetching is None:
            self._tried_time = now
            self._fetching = asyncio.create_task(self._fetch_now(now), name="fetch keys")
        await asyncio.shield(self._fetching)

    async def _fetch_now(self, now: float) -> None:
        epoch = now - time.monotonic()
        try:
            self._fetched = await self._fetch()
        except (KeyLoadError, AuthError) as error:
            self.clock_offset_seconds = None
            self.failure, self._setting = str(error), error.setting or self._url_setting_of(error)
            text = (
                "keys of %s cannot be fetched, the old ones stay in use: %s%s"
                if self._is_recent(now)
                else "keys of %s cannot be fetched, and there are no others: %s%s"
            )
            where = self._setting and f"{self._table}.{self._setting}"
            if self._failures.may_pass((text, self.failure)):
                log.error(text, self._issuer, error, of_setting(where))
        else:
            if self.failure:
                self._failures = Rarely(FAILURE_LOG_SECONDS)
                log.info("keys of %s are fetched again", self._issuer)
            self.failure = self._setting = ""
            self._fetched_time = now
            self.clock_offset_seconds = http_offset(self._fetched.server_epoch, epoch)
            self._skipped.note(self._fetched.keys)
        finally:
            self._fetching = None
