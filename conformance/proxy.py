"""A reverse proxy that adds an Authorization header, for a suite that has no option for a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import httpx2
from starlette.types import Message, Receive, Scope, Send

from mcp_adapter.gate.whitespace import trimmed

_NOT_RELAYED: Final = {b"authorization", b"connection", b"content-length", b"transfer-encoding"}
"""What the proxy says for itself, and what is of one connection (RFC 9110 section 7.6.1)."""

Headers = list[tuple[bytes, bytes]]


class AuthorizingProxy:
    """An ASGI app that relays every request, streams among them, with a token of its own.

    Host and all other headers stay as they are, so that what is behind it can judge them.

    Args:
        http: without a limit on how long an answer takes.
        upstream: origin that requests go on to, like ``http://127.0.0.1:8000``.
        token: a valid one, asked for with each request.
    """

    def __init__(self, http: httpx2.AsyncClient, upstream: str, token: Callable[[], str]) -> None:
        self._http = http
        self._upstream = upstream
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request, until it is answered or the client leaves."""
        if scope["type"] != "http":
            return
        body = b""
        event: Message = {"more_body": True}
        while event.get("more_body"):
            event = await receive()
            body += event.get("body", b"")
        url = self._upstream + scope["raw_path"].decode()
        if scope["query_string"]:
            url += "?" + scope["query_string"].decode()
        authorization = (b"authorization", f"Bearer {self._token()}".encode())
        headers = [*_relayed(trimmed(scope)["headers"]), authorization]
        # Built directly: the client's own method adds headers.
        request = httpx2.Request(scope["method"], url, headers=headers, content=body)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
            await self._answer(request, send)
            tasks.cancel_scope.cancel()

    async def _answer(self, request: httpx2.Request, send: Send) -> None:
        response = await self._http.send(request, stream=True)
        try:
            headers = _relayed(response.headers.raw)
            start = {"type": "http.response.start", "status": response.status_code}
            await send({**start, "headers": headers})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()


def _relayed(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name.lower() not in _NOT_RELAYED]


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
