"""Issued credentials, cached in memory until they expire and renewed before.

Concurrent requests for the same credentials share one call.
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
"""Cached credentials, and as many cached failures; those used least recently are evicted first."""

CACHE_BYTES = 64 * 1024 * 1024
"""Memory that all credentials may take, and the same for all failures."""

_KEY_BYTES = 3_000
"""Memory of a key (role, subject, tags and the digest of a policy, or the digest of a token) and of
the parts of an entry that are no secret."""

MAX_CONCURRENT_CALLS = 256
"""Calls in flight: a flood of principals is not passed on to the issuer of credentials."""

RENEWAL_FRACTION = 0.8
"""The part of their lifetime after which credentials are renewed, in the background."""

FAILURE_SECONDS = 5.0
"""How long a failure is cached before the issuer of credentials is called again."""

CredentialsT = TypeVar("CredentialsT", AwsCredentials, BearerCredentials)


@dataclass(slots=True)
class _Cached(Generic[CredentialsT]):
    """Credentials, and when to renew them if new ones would expire later."""

    credentials: CredentialsT
    renew_time: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there are none, cached until a time. Not the error itself: its frames hold tokens and
    responses."""

    until: float
    reason: Reason
    detail: str
    setting: str
    is_retryable: bool

    def again(self, now: float) -> AuthError:
        """The same error for another request."""
        return AuthError(
            self.reason,
            self.detail,
            setting=self.setting,
            retry_after_seconds=self.until - now if self.is_retryable else None,
        )


@dataclass(slots=True)
class CacheCounts:
    """Events of caches, for metrics.

    Attributes:
        hits: requests that were served with cached credentials.
        misses: requests that waited for the issuer of credentials.
        cached_failures: requests that failed with a cached failure.
        issued: credentials that were issued.
        failed: calls to the issuer of credentials that failed, by reason.
    """

    hits: int = 0
    misses: int = 0
    cached_failures: int = 0
    issued: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class CredentialCache(Generic[CredentialsT]):
    """Belongs to one event loop. Its clock is that of its callers: ``now`` of each call.

    Args:
        counts: where it counts its events.
    """

    def __init__(self, counts: CacheCounts | None = None) -> None:
        self._counts = counts or CacheCounts()
        self._cached: LruCache[Hashable, _Cached[CredentialsT]] = LruCache(CACHE_SIZE, CACHE_BYTES)
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
        """The cached credentials of ``key``, or those that ``issue`` returns.

        Args:
            key: everything that the result of ``issue`` depends on, except ``ends``.
            issue: requests new ones. A caller that is cancelled does not cancel it for others.
            ends: when the token expires. No credentials are given a later ``expire_time``. It may
                change: each answer of introspection says anew when the token expires.
            now: seconds since the epoch.

        Raises:
            AuthError: as ``issue``; CREDENTIALS_UNAVAILABLE when ``MAX_CONCURRENT_CALLS`` are in
                flight.
        """
        cached = self._cached.get(key)
        if cached is not None and now < cached.credentials.expire_time <= ends:
            if (
                now >= cached.renew_time
                and ends > cached.credentials.expire_time
                and key not in self._calls
                and len(self._calls) < MAX_CONCURRENT_CALLS
            ):
                self._call(key, issue, ends, now)
            self._counts.hits += 1
            return cached.credentials
        failure = self._failed.get(key)
        if failure is not None and now < failure.until:
            self._counts.cached_failures += 1
            raise failure.again(now)
        self._counts.misses += 1
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= MAX_CONCURRENT_CALLS:
                raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, "too many calls are in flight")
            call = self._call(key, issue, ends, now)
        # A caller that is cancelled does not cancel the call for the others.
        return await asyncio.shield(call)

    async def close(self) -> None:
        """Cancel the calls in flight."""
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
        # asyncio logs an exception that nobody retrieves, as when all callers were cancelled.
        error = None if call.cancelled() else call.exception()
        if error is not None and not isinstance(error, AuthError):
            log_unexpected(log, "issuing credentials has failed", error)

    async def _issued(
        self, key: Hashable, issue: Callable[[], Awaitable[CredentialsT]], ends: float, now: float
    ) -> CredentialsT:
        try:
            issued = await issue()
            if issued.expire_time <= now:
                raise AuthError(
                    Reason.CREDENTIALS_UNAVAILABLE, "the credentials had expired on arrival"
                )
        except AuthError as error:
            self._note_failure(key, error, now)
            raise
        self._counts.issued += 1
        expire_time = min(issued.expire_time, ends)
        renew_time = now + RENEWAL_FRACTION * (expire_time - now)
        credentials = replace(
            issued,
            expire_time=expire_time,
            renew_time=renew_time if expire_time < ends else math.inf,
        )
        cost = _KEY_BYTES + credentials.memory_bytes()
        self._cached.put(key, _Cached(credentials, renew_time), cost)
        return credentials

    def _note_failure(self, key: Hashable, error: AuthError, now: float) -> None:
        log.warning("no credentials were issued: %s", error)
        self._counts.failed[error.reason.name] += 1
        # An issuer that asks for a longer pause gets it.
        pause = max(FAILURE_SECONDS, error.retry_after_seconds or 0.0)
        cached = self._cached.peek(key)
        if error.reason is Reason.CREDENTIALS_REFUSED:
            # The issuer rejects the principal: earlier credentials are not used any more.
            self._cached.discard(key)
        elif cached is not None:
            cached.renew_time = now + pause
        cost = _KEY_BYTES + 4 * len(error.detail)
        failure = _Failure(
            now + pause,
            error.reason,
            error.detail,
            error.setting,
            is_retryable=error.retry_after_seconds is not None,
        )
        self._failed.put(key, failure, cost)
