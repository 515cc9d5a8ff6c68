"""How often signing in may be attempted: by one address, and by all of them."""

from __future__ import annotations

from collections.abc import Callable

from authsvc.common.lru import LruCache, bytes_for
from authsvc.common.token_bucket import TokenBucket

ATTEMPTS = 5
ATTEMPT_SECONDS = 30.0
"""One address may attempt to sign in ``ATTEMPTS`` times at once, and once more after each
``ATTEMPT_SECONDS``."""

ALL_ATTEMPTS = 30
ALL_ATTEMPT_SECONDS = 2.0
"""The same for all addresses together: an attacker may have many."""

MAX_ADDRESSES = 1_024
"""Addresses whose attempts are counted; the one that attempted longest ago is evicted first."""

_BUCKET_BYTES = 200


class SignInAttempts:
    """Limits attempts to sign in.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of_all = TokenBucket(1 / ALL_ATTEMPT_SECONDS, ALL_ATTEMPTS, clock())
        self._by_address: LruCache[str, TokenBucket] = LruCache(
            MAX_ADDRESSES, bytes_for(MAX_ADDRESSES, _BUCKET_BYTES)
        )

    def take(self, address: str) -> float:
        """Count one attempt.

        Args:
            address: the client's IP address.

        Returns:
            0.0 if it is allowed; else the seconds until the next one is.
        """
        now = self._clock()
        of_address = self._by_address.get(address)
        if of_address is None:
            of_address = TokenBucket(1 / ATTEMPT_SECONDS, ATTEMPTS, now)
            self._by_address.put(address, of_address, _BUCKET_BYTES)
        # An address beyond its limit takes nothing from the others.
        return of_address.take(now) or self._of_all.take(now)
