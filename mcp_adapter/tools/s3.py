"""Clients of the S3 API: each works with the credentials that it was asked for, and no others.

A client is costly to make, so some are kept: by their credentials, never by session or caller.
aiobotocore and the API's model take 0.3 s and 32 MB. They are loaded with the first client, so a
server without calls of S3 does without.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from authsvc.common.lru import LruCache
from authsvc.domain.resolution import AwsCredentials, Secret
from mcp_adapter.tools.slices import Slices

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

    from mcp_adapter.tools.s3_api import S3Api

MAX_CLIENTS = 64
"""Clients that are kept; those used least recently, or expired, are closed when another comes."""

_Key = tuple[str, Secret, Secret | None, str]


@dataclass
class _Kept:
    """A client, who uses it, when its credentials end, and what closes it."""

    users: int = 0
    expire_time: float = 0.0
    dropped: bool = False
    client: S3Client | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def close(self) -> None:
        """Close it, even for a request that is being cancelled: others would never do it."""
        with anyio.CancelScope(shield=True):
            await self.closing.aclose()


class S3Clients:
    """Belongs to one event loop.

    Args:
        endpoint_url: the API; None for AWS itself.
        region: where credentials name none.
        clock: seconds since the epoch.

    Attributes:
        region: the same.
        slices: in which what S3 answers is worked on.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        region: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._endpoint_url = endpoint_url
        self.region = region
        self.slices = Slices()
        self._api: S3Api | None = None
        self._loading = asyncio.Lock()
        # `_drop` bounds it: a client has to be closed when it is evicted.
        self._kept: LruCache[_Key, _Kept] = LruCache(sys.maxsize, sys.maxsize)

    @asynccontextmanager
    async def client(self, credentials: AwsCredentials) -> AsyncIterator[S3Client]:
        """A client that signs with ``credentials``."""
        api = await self._loaded()
        key = (
            credentials.access_key_id,
            credentials.secret_access_key,
            credentials.session_token,
            credentials.region or self.region,
        )
        kept = self._kept.get(key)
        if kept is None:
            kept = _Kept()
            self._kept.put(key, kept, 0)
        # The same keys can come for longer, with a later token.
        kept.expire_time = max(kept.expire_time, credentials.expire_time)
        kept.users += 1
        try:
            async with kept.opening:
                if kept.client is None:
                    await self._drop()
                    kept.client = await kept.closing.enter_async_context(api.client(*key))
            yield kept.client
        finally:
            kept.users -= 1
            if kept.dropped and not kept.users:
                await kept.close()

    def error_code(self, error: Exception) -> str | None:
        """What an exception of a client says about S3; see ``s3_api.error_code``."""
        return None if self._api is None else self._api.error_code(error)

    async def close(self) -> None:
        """Close all of them."""
        while (oldest := self._kept.oldest()) is not None:
            key, kept = oldest
            self._kept.discard(key)
            await kept.close()

    async def _drop(self) -> None:
        """Close the clients whose credentials have expired, and the least recently used ones."""
        now = self._clock()
        items = self._kept.items()
        excess = max(0, len(items) - MAX_CLIENTS)
        dropped = [
            (key, kept)
            for number, (key, kept) in enumerate(items)
            if number < excess or 0 < kept.expire_time <= now
        ]
        for key, kept in dropped:
            self._kept.discard(key)
            kept.dropped = True
        for _, kept in dropped:
            if not kept.users:
                await kept.close()

    async def _loaded(self) -> S3Api:
        """Load the API, once. Other calls go on meanwhile: a thread does it."""
        if self._api is None:
            async with self._loading:
                if self._api is None:
                    self._api = await anyio.to_thread.run_sync(
                        _load, self._endpoint_url, self.slices
                    )
        return self._api


def _load(endpoint_url: str | None, slices: Slices) -> S3Api:
    from mcp_adapter.tools.s3_api import S3Api

    api = S3Api(endpoint_url, slices)
    # A server that has frozen its objects once it listens does so with these: a full collection
    # takes 19 ms with them (measured).
    if gc.get_freeze_count():
        gc.collect()
        gc.freeze()
    return api
