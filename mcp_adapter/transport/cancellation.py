"""Cancelling a request of the handshake era: a notification does it, in a POST of its own.

It has effect on the replica that serves the request. Only a router with session affinity sends it
there; on any other replica it has none, and the request completes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import anyio
from mcp_types import RequestId
from starlette.requests import Request

from authsvc.domain.resolution import Resolution

ResultT = TypeVar("ResultT")

METHOD = "notifications/cancelled"

_Key = tuple[str, str, str, type, RequestId]
"""Session, issuer, subject; the request's id, and its type, because 1 is not "1"."""


class InFlight:
    """The requests that this process serves, by session and caller."""

    def __init__(self) -> None:
        self._scopes: dict[_Key, anyio.CancelScope] = {}

    async def run(
        self, request: Request, request_id: RequestId, call: Awaitable[ResultT]
    ) -> ResultT | None:
        """Await ``call``; None when its caller has cancelled it."""
        if (key := _key(request, request_id)) is None:
            return await call
        with anyio.CancelScope() as scope:
            self._scopes[key] = scope
            try:
                return await call
            finally:
                # A client that uses an id twice at once can cancel the second alone.
                if self._scopes.get(key) is scope:
                    del self._scopes[key]
        return None

    def cancel(self, request: Request, params: Mapping[str, Any] | None) -> None:
        """Cancel the request that a notification names, if this process serves it for the same
        caller."""
        request_id = (params or {}).get("requestId")
        if isinstance(request_id, str | int):
            key = _key(request, request_id)
            if key is not None and (scope := self._scopes.get(key)):
                scope.cancel()


def _key(request: Request, request_id: RequestId) -> _Key | None:
    """None without an identity: a session's id is no credential, so it cancels nothing."""
    resolution = getattr(request.state, "resolution", None)
    if not isinstance(resolution, Resolution):
        return None
    session, who = resolution.session, resolution.principal
    if session is None or who is None:
        return None
    return session.id, who.issuer, who.subject, type(request_id), request_id
