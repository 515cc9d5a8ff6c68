"""Issued credentials, cached in memory until they expire and renewed before.

Concurrent requests for the same credentials share one call. No principal takes the entries or the
calls of others: it can vary what it asks for, by its tokens and by the buckets that it names.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

from authsvc.common.rarely import Rarely
from authsvc.common.unexpected import log_unexpected
from authsvc.credentials.owned import OwnedCache
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

MAX_OWNED = 64
"""Cached credentials of one principal, and as many failures: 1/64 of the cache. A principal has one
for each of its tokens, actors and sets of buckets that are in use at one time: a tool that works
with each of ``MAX_BUCKETS`` buckets finds all of them cached."""

MAX_OWN_CALLS = 16
"""Calls in flight of one principal, 1/16 of all: as many as one request may ask for
(``MAX_REQUESTS``)."""

LOG_INTERVAL_SECONDS = 1.0
"""From one line about a failure that no request gets to the next of its reason."""

RENEWAL_FRACTION = 0.8
"""The part of their lifetime after which credentials are renewed, in the background."""

FAILURE_SECONDS = 5.0
"""How long a failure is cached before the issuer of credentials is called again."""

REJECTED_SECONDS = 5.0
"""Age from which a token that an API has rejected is replaced. A younger one would not be the last
that is rejected: the cause is another, and each request would be a call."""

CredentialsT = TypeVar("CredentialsT", AwsCredentials, BearerCredentials)


def _until(issued: CredentialsT, ends: float) -> CredentialsT:
    """The credentials for a token that expires before them: none are renewed before that."""
    return replace(issued, expire_time=ends, renew_time=math.inf)


@dataclass(slots=True)
class _Cached(Generic[CredentialsT]):
    """Credentials, when they were issued, and when to renew them if new ones would expire later."""

    credentials: CredentialsT
    issue_time: float
    renew_time: float

    def is_rejected(self, digest: bytes, now: float) -> bool:
        """Whether an API has rejected this very token, and a new one may be requested."""
        if not digest or now < self.issue_time + REJECTED_SECONDS:
            return False
        if not isinstance(self.credentials, BearerCredentials):
            return False
        token = self.credentials.access_token.reveal().encode()
        return hmac.compare_digest(hashlib.sha256(token).digest(), digest)


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
    """Events of the caches of one name, for metrics.

    Attributes:
        name: of the credentials in the configuration; empty for those without one.
        hits: requests that were served with cached credentials.
        misses: requests that waited for the issuer of credentials.
        cached_failures: requests that failed with a cached failure.
        issued: credentials that were issued.
        failed: calls to the issuer of credentials that failed, by reason.
    """

    name: str = ""
    hits: int = 0
    misses: int = 0
    cached_failures: int = 0
    issued: int = 0
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Lookup(Generic[CredentialsT]):
    """What ``get`` is given."""

    key: Hashable
    issue: Callable[[], Awaitable[CredentialsT]]
    owner: Hashable
    ends: float
    now: float


@dataclass(slots=True)
class _Call(Generic[CredentialsT]):
    """A call to the issuer, and how many requests wait for it."""

    task: asyncio.Task[CredentialsT]
    waiting: int = 0


class CredentialCache(Generic[CredentialsT]):
    """Belongs to one event loop. Its clock is that of its callers: ``now`` of each call.

    Args:
        counts: where it counts its events.
    """

    def __init__(self, counts: CacheCounts | None = None) -> None:
        self._counts = counts or CacheCounts()
        self._cached: OwnedCache[_Cached[CredentialsT]] = OwnedCache(
            CACHE_SIZE, CACHE_BYTES, MAX_OWNED
        )
        self._failed: OwnedCache[_Failure] = OwnedCache(CACHE_SIZE, CACHE_BYTES, MAX_OWNED)
        self._calls: dict[Hashable, _Call[CredentialsT]] = {}
        self._calls_of: Counter[Hashable] = Counter()
        self._lines = Rarely(LOG_INTERVAL_SECONDS)

    async def get(
        self,
        key: Hashable,
        issue: Callable[[], Awaitable[CredentialsT]],
        *,
        owner: Hashable,
        ends: float,
        now: float,
        rejected: bytes = b"",
    ) -> CredentialsT:
        """The cached credentials of ``key``, or those that ``issue`` returns.

        Args:
            key: everything that the result of ``issue`` depends on, except ``ends``; ``owner`` is
                part of it.
            issue: requests new ones. A caller that is cancelled does not cancel it for others.
            owner: the principal, by issuer and subject. It has ``MAX_OWNED`` entries and
                ``MAX_OWN_CALLS`` calls at most.
            ends: when the token expires. No credentials are given a later ``expire_time``. It may
                change: each answer of introspection says anew when the token expires.
            now: seconds since the epoch.
            rejected: SHA-256 of an access token that an API has rejected, or empty. That token is
                not returned again once it is ``REJECTED_SECONDS`` old: a new one is requested.
                AWS's credentials are returned whatever it is.

        Raises:
            AuthError: as ``issue``; CREDENTIALS_UNAVAILABLE when as many calls are in flight as may
                be, of all or of this principal.
        """
        cached = self._cached.get(key)
        if (
            cached is not None
            and now < cached.credentials.expire_time <= ends
            and not cached.is_rejected(rejected, now)
        ):
            if now >= cached.renew_time and ends > cached.credentials.expire_time:
                self._renew(_Lookup(key, issue, owner, ends, now))
            self._counts.hits += 1
            return cached.credentials
        failure = self._failed.get(key)
        if failure is not None and now < failure.until:
            self._counts.cached_failures += 1
            raise failure.again(now)
        self._counts.misses += 1
        call = self._calls.get(key)
        if call is None:
            if fault := self._no_call(owner):
                raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, fault)
            call = self._call(_Lookup(key, issue, owner, ends, now))
        call.waiting += 1
        try:
            # A caller that is cancelled does not cancel the call for the others.
            issued = await asyncio.shield(call.task)
        finally:
            call.waiting -= 1
        # The call may be that of a request whose token was said to expire later.
        return issued if issued.expire_time <= ends else _until(issued, ends)

    async def close(self) -> None:
        """Cancel the calls in flight."""
        calls = [it.task for it in self._calls.values()]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _renew(self, lookup: _Lookup[CredentialsT]) -> None:
        """Request new ones in the background, unless that is under way or there may be no call."""
        if lookup.key not in self._calls and not self._no_call(lookup.owner):
            self._call(lookup)

    def _no_call(self, owner: Hashable) -> str:
        """Why there may be no further call at the moment; empty where there may."""
        if len(self._calls) >= MAX_CONCURRENT_CALLS:
            return "too many calls are in flight"
        if self._calls_of[owner] >= MAX_OWN_CALLS:
            return "too many calls of this principal are in flight"
        return ""

    def _call(self, lookup: _Lookup[CredentialsT]) -> _Call[CredentialsT]:
        task = asyncio.create_task(self._issued(lookup), name="issue credentials")
        call = self._calls[lookup.key] = _Call(task)
        self._calls_of[lookup.owner] += 1
        task.add_done_callback(partial(self._called, lookup))
        return call

    def _called(self, lookup: _Lookup[CredentialsT], call: asyncio.Task[CredentialsT]) -> None:
        del self._calls[lookup.key]
        self._calls_of[lookup.owner] -= 1
        if not self._calls_of[lookup.owner]:
            del self._calls_of[lookup.owner]
        # asyncio logs an exception that nobody retrieves, as when all callers were cancelled.
        error = None if call.cancelled() else call.exception()
        if error is not None and not isinstance(error, AuthError):
            log_unexpected(log, "issuing credentials has failed", error)

    async def _issued(self, lookup: _Lookup[CredentialsT]) -> CredentialsT:
        now, ends = lookup.now, lookup.ends
        try:
            issued = await lookup.issue()
            if issued.expire_time <= now:
                raise AuthError(
                    Reason.CREDENTIALS_UNAVAILABLE, "the credentials had expired on arrival"
                )
        except AuthError as error:
            self._note_failure(lookup, error)
            raise
        self._counts.issued += 1
        expire_time = min(issued.expire_time, ends)
        renew_time = now + RENEWAL_FRACTION * (expire_time - now)
        credentials = replace(
            issued,
            expire_time=expire_time,
            renew_time=renew_time if expire_time < ends else math.inf,
        )
        self._cached.put(
            lookup.key,
            _Cached(credentials, now, renew_time),
            _KEY_BYTES + credentials.memory_bytes(),
            owner=lookup.owner,
            until=expire_time,
            now=now,
        )
        return credentials

    def _note_failure(self, lookup: _Lookup[CredentialsT], error: AuthError) -> None:
        self._log_unheard(lookup, error)
        self._counts.failed[error.reason.name] += 1
        # An issuer that asks for a longer pause gets it.
        until = lookup.now + max(FAILURE_SECONDS, error.retry_after_seconds or 0.0)
        cached = self._cached.peek(lookup.key)
        if error.reason is Reason.CREDENTIALS_REFUSED:
            # The issuer rejects the principal: earlier credentials are not used any more.
            self._cached.discard(lookup.key)
        elif cached is not None:
            cached.renew_time = until
        failure = _Failure(
            until,
            error.reason,
            error.detail,
            error.setting,
            is_retryable=error.retry_after_seconds is not None,
        )
        cost = _KEY_BYTES + 4 * len(error.detail)
        self._failed.put(lookup.key, failure, cost, owner=lookup.owner, until=until, now=lookup.now)

    def _log_unheard(self, lookup: _Lookup[CredentialsT], error: AuthError) -> None:
        """Log a failure that no request gets, of a renewal or after a deadline. Otherwise the
        request is logged, with its subject and resource, and the same error."""
        if not self._calls[lookup.key].waiting and self._lines.may_pass(error.reason):
            name = self._counts.name or "without a name"
            log.warning("credentials %s are not issued, and no request waits: %s", name, error)
