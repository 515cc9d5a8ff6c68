"""Issued credentials, kept while they last: one call for all who ask at once, renewed in time.

They are here in memory and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

from authsvc.common.lru import LruCache
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, BearerCredentials

log = logging.getLogger(__name__)

CACHE_SIZE = 4096
"""Credentials that are kept, and as many failures; those used least recently go first."""

CACHE_BYTES = 64 * 1024 * 1024
"""What credentials may take together in memory, and failures as well."""

_KEY_BYTES = 3_000
"""What a key takes: role, subject and the digest of a policy, or a token's digest; with the rest
of an entry that is no secret."""

MAX_CONCURRENT_CALLS = 256
"""Calls under way: a flood of principals is not passed on to who issues."""

RENEWAL_FRACTION = 0.8
"""The part of their life after which credentials are renewed, in the background."""

FAILURE_SECONDS = 5.0
"""How long a failure counts before the issuer of credentials is asked again."""

CredentialsT = TypeVar("CredentialsT", AwsCredentials, BearerCredentials)


@dataclass(slots=True)
class _Kept(Generic[CredentialsT]):
    """Credentials, and when to ask for the next ones; infinity where those would end no later."""

    credentials: CredentialsT
    renew_time: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there are none, and until when that counts. Not the error itself: its frames hold
    tokens and what was answered."""

    until: float
    reason: Reason
    detail: str
    is_retryable: bool

    def again(self, now: float) -> AuthError:
        """The same error for another request."""
        return AuthError(
            self.reason,
            self.detail,
            retry_after_seconds=self.until - now if self.is_retryable else None,
        )


@dataclass(slots=True)
class CacheCounts:
    """What caches did, for metrics.

    Attributes:
        hits: answers with what was kept.
        misses: those that had to wait for who issues.
        cached_failures: answers with a failure that still counted.
        issued: credentials that were issued.
        failed: calls to who issues that failed, by reason.
    """

    hits: int = 0
    misses: int = 0
    cached_failures: int = 0
    issued: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class CredentialCache(Generic[CredentialsT]):
    """Belongs to one event loop. Its clock is that of its callers: ``now`` of each call.

    Args:
        counts: where it counts what it does.
    """

    def __init__(self, counts: CacheCounts | None = None) -> None:
        self._counts = counts or CacheCounts()
        self._kept: LruCache[Hashable, _Kept[CredentialsT]] = LruCache(CACHE_SIZE, CACHE_BYTES)
        self._failed: LruCache[Hashable, _Failure] = LruCache(CACHE_SIZE, CACHE_BYTES)
        self._calls: dict[Hashable, asyncio.Task[CredentialsT]] = {}

    async def get(
        self,
        key: Hashable,
        issue: Callable[[], Awaitable[CredentialsT]],
        *,
        ends: float,
        now: float,
    ) -> CredentialsT:
        """Credentials under ``key``: those kept, or what ``issue`` returns.

        Args:
            key: whatever decides on what ``issue`` returns; ``ends`` follows from it.
            issue: asks for new ones. Its caller may go away without ending it for others.
            ends: when the token ends. No credentials are said to last longer.
            now: seconds since the epoch.

        Raises:
            AuthError: as ``issue``, and CREDENTIALS_UNAVAILABLE when too much is being asked for.
        """
        kept = self._kept.get(key)
        if kept is not None and now < kept.credentials.expire_time:
            if (
                now >= kept.renew_time
                and key not in self._calls
                and len(self._calls) < MAX_CONCURRENT_CALLS
            ):
                self._call(key, issue, ends, now)
            self._counts.hits += 1
            return kept.credentials
        failure = self._failed.get(key)
        if failure is not None and now < failure.until:
            self._counts.cached_failures += 1
            raise failure.again(now)
        self._counts.misses += 1
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= MAX_CONCURRENT_CALLS:
                raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, "too many calls are under way")
            call = self._call(key, issue, ends, now)
        # One who leaves does not end it for the others.
        return await asyncio.shield(call)

    async def close(self) -> None:
        """End what is under way."""
        calls = [*self._calls.values()]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _call(
        self, key: Hashable, issue: Callable[[], Awaitable[CredentialsT]], ends: float, now: float
    ) -> asyncio.Task[CredentialsT]:
        call = asyncio.create_task(self._issued(key, issue, ends, now), name="issue credentials")
        self._calls[key] = call
        call.add_done_callback(partial(self._called, key))
        return call

    def _called(self, key: Hashable, call: asyncio.Task[CredentialsT]) -> None:
        del self._calls[key]
        # Looked at, or asyncio complains where all who had asked have left.
        error = None if call.cancelled() else call.exception()
        if error is not None and not isinstance(error, AuthError):
            log_unexpected(log, "issuing credentials has failed", error)

    async def _issued(
        self, key: Hashable, issue: Callable[[], Awaitable[CredentialsT]], ends: float, now: float
    ) -> CredentialsT:
        try:
            issued = await issue()
            if issued.expire_time <= now:
                raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, "they had ended when they came")
        except AuthError as error:
            self._note_failure(key, error, now)
            raise
        self._counts.issued += 1
        renew_time = math.inf
        if issued.expire_time < ends:
            renew_time = now + RENEWAL_FRACTION * (issued.expire_time - now)
        credentials = replace(
            issued, expire_time=min(issued.expire_time, ends), renew_time=renew_time
        )
        cost = _KEY_BYTES + credentials.memory_bytes()
        self._kept.put(key, _Kept(credentials, renew_time), cost)
        return credentials

    def _note_failure(self, key: Hashable, error: AuthError, now: float) -> None:
        log.warning("no credentials were issued: %s", error)
        self._counts.failed[error.reason.name] += 1
        kept = self._kept.peek(key)
        if error.reason is Reason.CREDENTIALS_REFUSED:
            # The issuer has spoken; what it gave before is not handed out any more.
            self._kept.discard(key)
        elif kept is not None:
            kept.renew_time = now + FAILURE_SECONDS
        cost = _KEY_BYTES + 4 * len(error.detail)
        failure = _Failure(
            now + FAILURE_SECONDS,
            error.reason,
            error.detail,
            is_retryable=error.retry_after_seconds is not None,
        )
        self._failed.put(key, failure, cost)
