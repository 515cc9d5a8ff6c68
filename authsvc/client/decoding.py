"""Responses of ``ResolveSession``, decoded: the same bytes once.

Most responses repeat an earlier one byte by byte, and to decode one with many claims costs more
than the rest of the client's work. A decoded response is used only for bytes that have just
arrived: authsvc decides on each request.
"""

from __future__ import annotations

import asyncio

from authsvc.common.lru import LruCache
from authsvc.domain.resolution import Resolution
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire

KEPT_SECONDS = 30.0
"""How long a decoded response is kept at the most, and the credentials in it."""

MAX_RESPONSES = 4096

MAX_BYTES = 16 * 1024 * 1024
"""Memory that they may take, encoded and decoded."""


class Decoder:
    """Decodes responses. Keeps those that were decoded while it is open."""

    def __init__(self) -> None:
        self._decoded: LruCache[bytes, Resolution] = LruCache(MAX_RESPONSES, MAX_BYTES)
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to keep responses, in the running event loop."""
        self._decoded.clear()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(KEPT_SECONDS, self.open)

    def close(self) -> None:
        """Keep none."""
        self._decoded.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resolution_of(self, encoded: bytes) -> Resolution:
        """The decoded response; the same object for the same bytes, as nothing in it changes.

        Args:
            encoded: a ``ResolveSessionResponse``.

        Raises:
            google.protobuf.message.DecodeError: the bytes are no response.
        """
        resolution = self._decoded.get(encoded)
        if resolution is None:
            resolution = wire.resolution_of(pb.ResolveSessionResponse.FromString(encoded))
            if self._timer is not None:
                # Decoded, the lists of short names take about twice as much as encoded.
                self._decoded.put(encoded, resolution, 3 * len(encoded))
        return resolution
