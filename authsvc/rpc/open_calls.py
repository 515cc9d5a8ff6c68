"""Bounds the calls of open methods, whose callers are not identified."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

from authsvc.access.usage import Limit
from authsvc.rpc.admission import Admission
from authsvc.rpc.metadata import Context

_UNREAD = Limit("responses are not read", "limits.max_unauthenticated_calls")


class OpenCalls:
    """Counts the calls of open methods, until each client has taken its response.

    Once there are many, a connection has one of them at a time.

    Args:
        max_calls: how many there may be before connections are held to one.
        admission: audits that there are.
    """

    def __init__(self, max_calls: int, admission: Admission) -> None:
        self._max_calls = max_calls
        self._admission = admission
        self._by_peer: Counter[str] = Counter()

    def begin(self, task: asyncio.Task[Any], context: Context) -> None:
        """Count a call until its task is done.

        Raises:
            AuthError: OVERLOADED: there are many, and one of them is of the same connection.
        """
        peer = str(context.peer())
        if peer.startswith("unix:"):
            return  # all connections have this name, and the folder's permissions admit few
        if self._by_peer.total() >= self._max_calls and self._by_peer[peer]:
            raise self._admission.reached(_UNREAD, 1.0)
        self._by_peer[peer] += 1
        task.add_done_callback(partial(self._end, peer))

    def _end(self, peer: str, _: object) -> None:
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]
