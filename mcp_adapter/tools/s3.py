"""Clients of the S3 API: each works with the credentials that it was asked for, and no others.

A client is costly to make, so some are kept: by their credentials, never by session or caller.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from aiobotocore.config import AioConfig

from authsvc.common.aws_isolation import connection_options, isolated_session
from authsvc.common.lru import LruCache
from authsvc.domain.resolution import AwsCredentials, Secret
from mcp_adapter.tools.pages import parse_in_slices
from mcp_adapter.tools.slices import Slices

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_CLIENTS = 64
"""Clients that are kept; those used least recently, or expired, are closed when another comes."""

MAX_CONNECTIONS = 50
"""Connections of one client. Botocore's own 10 would have calls of one user wait for each other."""

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
        # One for all of them: it holds the API's model, a tenth of a second's work to read, and is
        # never asked for credentials.
        self._session = isolated_session()
        # `_drop` bounds it: a client has to be closed when it is evicted.
        self._kept: LruCache[_Key, _Kept] = LruCache(sys.maxsize, sys.maxsize)

    @asynccontextmanager
    async def client(self, credentials: AwsCredentials) -> AsyncIterator[S3Client]:
        """A client that signs with ``credentials``."""
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
                    kept.client = await kept.closing.enter_async_context(self._made(key))
            yield kept.client
        finally:
            kept.users -= 1
            if kept.dropped and not kept.users:
                await kept.close()

    async def load(self) -> None:
        """Read the API's model before the first request, which would block all others meanwhile."""
        unused = AwsCredentials("none", Secret("none"), None, self.region, 0.0)
        async with self.client(unused):
            """Nothing is asked for."""
        await self.close()

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

    @asynccontextmanager
    async def _made(self, key: _Key) -> AsyncIterator[S3Client]:
        access_key_id, secret_access_key, session_token, region = key
        async with self._session.create_client(
            "s3",
            region_name=region,
            endpoint_url=self._endpoint_url,
            verify=True,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key.reveal(),
            aws_session_token=session_token.reveal() if session_token else None,
            config=AioConfig(
                connect_timeout=3,
                read_timeout=20,
                max_pool_connections=MAX_CONNECTIONS,
                retries={"mode": "standard", "total_max_attempts": 3},
                signature_version="s3v4",
                **connection_options(),
            ),
        ) as client:
            parse_in_slices(client, self.slices)
            yield client
