"""The keys of received messages: a string each, in the first partition, which expires by itself."""

from __future__ import annotations

import math

from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.records import TTL_MARGIN_SECONDS


class ReceivedKeys:
    """Reads and marks keys. Every method raises ``AuthError`` STORE_UNAVAILABLE.

    Args:
        link: runs the commands.
        base: what the partition's keys begin with.
    """

    def __init__(self, link: Link, base: str) -> None:
        self._link = link
        self._base = base

    async def contains(self, key: str) -> bool:
        """See ``ReceivedStore.is_received``."""
        return await self._link.ask("GET", f"{self._base}:r:{key}") is not None

    async def mark(self, key: str, until: float) -> None:
        """See ``ReceivedStore.mark_received``.

        The server's clock may be ahead of the one that ``until`` is by: the key outlives it.
        """
        expires_ms = math.ceil((until + TTL_MARGIN_SECONDS) * 1000)
        await self._link.write(scripts.MARK_RECEIVED, self._base, key, expires_ms)
