"""The buckets of limits by subject, by client and for everyone, in one process.

A limit holds over this process alone: over N of them it is at most N times its rate. A store that
all of them share would have to be written for each call (docs/decisions/0037).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from authsvc.common.lru import ENTRY_BYTES, LruCache, bytes_for
from authsvc.common.token_bucket import TokenBucket
from authsvc.domain.rates import ONE_CALL, CallCounts, Rate, RateLimit, RatePer
from authsvc.domain.resolution import Principal

MAX_BUCKETS = 32_768
"""Buckets of one issuer's subjects and clients at one resource; the one used longest ago is evicted
first, and is full when it is used again. Issuers and resources are configured, so there are few. So
neither the clients of one issuer nor those of one MCP server evict the buckets of another."""

BUCKET_BYTES = 800
"""What a bucket may take, on average, with its key. Where they take more, fewer are kept."""

_OBJECTS_BYTES = 400

PER_SUBJECT = "calls_per_second_per_subject"
PER_CLIENT_ID = "calls_per_second_per_client_id"
"""Names of authsvc's own limits: their settings in ``[limits]``."""

MAX_COUNTED_NAMES = 100
OTHER = "other"
"""Limits whose rejections are counted by name; those of further names are counted as this."""


class BucketUse(NamedTuple):
    """What a request takes of one bucket.

    Attributes:
        group: the resource and the issuer whose bucket it is: no resource for authsvc's own limits,
            and no issuer for everyone's.
        key: of the bucket, in its group.
        limit: what the bucket is filled by.
        calls: how many it takes.
        setting: of a limit of ``[limits]``, its name in the configuration; empty for another.
    """

    group: tuple[str, str]
    key: tuple[object, ...]
    limit: RateLimit
    calls: int
    setting: str

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate, without what tokens and requests have as well."""
        return _OBJECTS_BYTES


class Reached(NamedTuple):
    """A limit that a request is beyond.

    Attributes:
        use: what it would have taken.
        wait_seconds: until it may be served.
    """

    use: BucketUse
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class ServiceRates:
    """authsvc's own limits, over all resources together; None for no limit.

    Attributes:
        per_subject: of each subject of an issuer.
        per_client: of each client id of an issuer.
    """

    per_subject: Rate | None = None
    per_client: Rate | None = None
    limits: tuple[RateLimit, ...] = field(init=False)

    def __post_init__(self) -> None:
        own = (
            (PER_SUBJECT, self.per_subject, RatePer.SUBJECT),
            (PER_CLIENT_ID, self.per_client, RatePer.CLIENT),
        )
        limits = (RateLimit(name, rate, per) for name, rate, per in own if rate is not None)
        object.__setattr__(self, "limits", tuple(limits))


class CallRates:
    """Counts the calls of subjects and clients. Belongs to one event loop.

    Args:
        service: authsvc's own limits.
        clock: seconds, of any origin; monotonic.

    Attributes:
        clock: see above.
        rejected: number of rejections by the name of the limit.
    """

    def __init__(
        self,
        service: ServiceRates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = (service or ServiceRates()).limits
        self.clock = clock
        self._groups: dict[tuple[str, str], LruCache[tuple[object, ...], TokenBucket]] = {}
        self.rejected: Counter[str] = Counter()

    def uses(
        self, principal: Principal, resource: str, counts: CallCounts = ONE_CALL
    ) -> tuple[BucketUse, ...]:
        """What a request takes of which buckets.

        Args:
            principal: whose request it is, by a valid token.
            resource: of the request.
            counts: what it counts as.
        """
        if counts.recheck or not (self._own or counts.rate_limits):
            return ()
        found = [
            _use(limit, principal, "", counts.calls, f"limits.{limit.name}") for limit in self._own
        ]
        for limit, calls in Counter(counts.rate_limits).items():
            found.append(_use(limit, principal, resource, calls, ""))
        return tuple(found)

    def take(self, uses: tuple[BucketUse, ...]) -> Reached | None:
        """Take all of them, or none.

        Returns:
            The limit that is reached, of several the one with the longest wait, counted as one
            rejection; None where all of them were taken.
        """
        reached = self.take_uncounted(uses)
        return None if reached is None else self._counted(reached)

    def take_uncounted(self, uses: tuple[BucketUse, ...]) -> Reached | None:
        """As ``take``, for a request that is no rejection yet: it is decided on once more."""
        now = self.clock()
        if len(uses) == 1:
            (use,) = uses
            wait = self._bucket(use, now).take(now, use.calls)
            return Reached(use, wait) if wait > 0.0 else None
        reached: Reached | None = None
        buckets = [self._bucket(use, now) for use in uses]
        for use, bucket in zip(uses, buckets, strict=True):
            wait = bucket.wait(now, use.calls)
            if wait > 0.0 and (reached is None or wait > reached.wait_seconds):
                reached = Reached(use, wait)
        if reached is not None:
            return reached
        for use, bucket in zip(uses, buckets, strict=True):
            bucket.take(now, use.calls)
        return None

    def put_back(self, uses: tuple[BucketUse, ...]) -> None:
        """Return what a request has taken that is not to count."""
        now = self.clock()
        for use in uses:
            self._bucket(use, now).put_back(use.calls)

    def _bucket(self, use: BucketUse, now: float) -> TokenBucket:
        buckets = self._groups.get(use.group)
        if buckets is None:
            buckets = LruCache(MAX_BUCKETS, bytes_for(MAX_BUCKETS, ENTRY_BYTES + BUCKET_BYTES))
            self._groups[use.group] = buckets
        bucket = buckets.get(use.key)
        if bucket is None:
            rate = use.limit.rate
            bucket = TokenBucket(rate.calls_per_second, rate.burst, now)
            cost = _OBJECTS_BYTES + sum(len(part) for part in use.key if isinstance(part, str))
            buckets.put(use.key, bucket, cost)
        return bucket

    def _counted(self, reached: Reached) -> Reached:
        name = reached.use.limit.name
        is_counted = name in self.rejected or len(self.rejected) < MAX_COUNTED_NAMES
        self.rejected[name if is_counted else OTHER] += 1
        return reached


def _use(
    limit: RateLimit, principal: Principal, resource: str, calls: int, setting: str
) -> BucketUse:
    rate = limit.rate
    key = (limit.name, rate.calls_per_second, rate.burst, limit.per.value)
    issuer, subject, client_id = principal.issuer, principal.subject, principal.client_id
    if limit.per is RatePer.EVERYONE:
        return BucketUse((resource, ""), key, limit, calls, setting)
    if limit.per is RatePer.CLIENT and client_id:
        return BucketUse((resource, issuer), (*key, client_id), limit, calls, setting)
    # A token that names no client is of a client of its own: its subject.
    return BucketUse((resource, issuer), (*key, "", subject), limit, calls, setting)
