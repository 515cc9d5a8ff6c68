"""A request as the app sees it: with its caller, without its token, read in one way."""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope

from authsvc.domain.resolution import Resolution
from authsvc.http_auth.forwarding import forwarded
from authsvc.http_auth.headers import SESSION_ID
from authsvc.http_auth.request_headers import RequestHeaders

_JSON = b"application/json"
_SESSION_ID = SESSION_ID.encode()


def inner_scope(
    scope: Scope,
    request: RequestHeaders,
    resolution: Resolution,
    body: bytes | None = None,
    *,
    in_session: bool = True,
) -> Scope:
    """The scope as the app sees it: with the identity, without the token.

    Args:
        scope: of the request.
        request: its headers.
        resolution: its caller.
        body: what was read; None for a request that has none.
        in_session: whether the app sees the request's session id.
    """
    headers = forwarded(request.headers, method=scope["method"], version=request.version)
    if body is not None:
        headers += [(b"content-type", _JSON), (b"content-length", b"%d" % len(body))]
    if in_session and request.session_id:
        headers.append((_SESSION_ID, request.session_id.encode("latin-1")))
    state: dict[str, Any] = {**scope.get("state", {}), "resolution": resolution}
    return {**scope, "state": state, "headers": headers}


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` and then what ``receive`` still has."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


def without_body(receive: Receive) -> Receive:
    """A ``receive`` for a request whose body was not read: it has none."""
    is_over = False

    async def receive_nothing() -> Message:
        nonlocal is_over
        if not is_over:
            is_over = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (event := await receive())["type"] == "http.request":
            pass
        return event

    return receive_nothing
