"""How many rejected tokens each client of a caller may present, by the client's address.

A client has one IPv4 address, or one IPv6 /64. One that has many is bounded by its caller's own
limit alone.
"""

from __future__ import annotations

from authsvc.common.lru import ENTRY_BYTES, LruCache, bytes_for
from authsvc.common.token_bucket import TokenBucket
from authsvc.net.peers import network_of

MAX_CLIENTS = 4_096
"""Clients whose tokens are counted; the one whose token was counted longest ago is evicted first.
"""

_BUCKET_BYTES = 200


class ClientBudgets:
    """The budgets of one caller's clients. An empty address is not known, and has no budget.

    Args:
        rate: rejected tokens per second.
        burst: at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._by_network: LruCache[str, TokenBucket] = LruCache(
            MAX_CLIENTS, bytes_for(MAX_CLIENTS, ENTRY_BYTES + _BUCKET_BYTES)
        )

    def wait(self, address: str, now: float) -> float:
        """The seconds until a client may present a token that is not known; takes nothing.

        Args:
            address: the client's IP address.
            now: seconds, of any origin.
        """
        bucket = self._by_network.peek(network_of(address)) if address else None
        return bucket.wait(now) if bucket else 0.0

    def take(self, address: str, now: float) -> float:
        """Count a token as rejected; returns 0, or the seconds to wait where there are too many."""
        if not address:
            return 0.0
        network = network_of(address)
        bucket = self._by_network.get(network)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now)
            self._by_network.put(network, bucket, _BUCKET_BYTES)
        return bucket.take(now)

    def put_back(self, address: str) -> None:
        """Return a token that was not rejected."""
        bucket = self._by_network.peek(network_of(address)) if address else None
        if bucket is not None:
            bucket.put_back()
