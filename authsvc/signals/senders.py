"""How many requests senders may use: those whose signals have been accepted, and all others."""

from __future__ import annotations

from authsvc.common.lru import ENTRY_BYTES, LruCache, bytes_for
from authsvc.common.token_bucket import TokenBucket
from authsvc.net.peers import network_of

MAX_SENDERS = 1_024
"""Senders whose signals have been accepted; the one that sent longest ago is evicted first."""

_BUCKET_BYTES = 200


class SenderBudgets:
    """Budgets of requests. All senders share one, but for those whose signals have been accepted:
    each of these has its own. Else an attacker with a few addresses could use up the budget with
    forged signals, and keep real ones out, which not every provider sends again.

    A sender is an IPv4 address or an IPv6 /64.

    Args:
        rate: requests per second.
        burst: at once.
        now: seconds, of any origin.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._shared = TokenBucket(rate, burst, now)
        self._accepted: LruCache[str, TokenBucket] = LruCache(
            MAX_SENDERS, bytes_for(MAX_SENDERS, ENTRY_BYTES + _BUCKET_BYTES)
        )

    def take(self, address: str, now: float) -> float:
        """Count a request; returns 0, or the seconds to wait where there are too many.

        Args:
            address: the sender's IP address; empty where it is not known.
            now: seconds, of any origin.
        """
        own = self._accepted.peek(network_of(address))
        return (own or self._shared).take(now)

    def accept(self, address: str, now: float) -> None:
        """A sender's signal has been accepted, and was not a repeated one, which anyone may send.
        Arguments as of ``take``."""
        network = network_of(address)
        if network and self._accepted.get(network) is None:
            self._accepted.put(network, TokenBucket(self._rate, self._burst, now), _BUCKET_BYTES)
