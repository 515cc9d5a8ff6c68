"""A request's body, read within bounds: of its length, its time, and its cost before its token is
verified."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from authsvc.http_auth.anonymous_bodies import Allowance
from authsvc.http_auth.bodies import check_length, check_type, declared_bytes
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal


async def read_body(
    receive: Receive,
    headers: Headers,
    *,
    max_bytes: int,
    timeout_seconds: float,
    allowance: Allowance | None = None,
) -> bytes:
    """A request's whole body.

    Args:
        receive: of the request.
        headers: of the request.
        max_bytes: longest body.
        timeout_seconds: longest time until it is complete.
        allowance: of the body before its token is verified; None for no limit.

    Raises:
        Refusal: 413 for more than ``max_bytes``, whatever Content-Length says; 408 when it takes
            longer than ``timeout_seconds``; 415 unless it is declared to be JSON; or that of
            ``allowance``.
        ClientDisconnect: the client left.
    """
    check_type(headers)
    body = bytearray()
    try:
        # Takes half the time of anyio's, which every request would pay.
        async with asyncio.timeout(timeout_seconds):
            # A body that declares to be too long is refused before it arrives.
            await _check_length(declared_bytes(headers), max_bytes, allowance)
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += event.get("body", b"")
                await _check_length(len(body), max_bytes, allowance)
                if not event.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The request was not complete after {timeout_seconds:g} seconds.",
            headers={"Connection": "close"},
            setting="body_timeout_seconds",
        ) from None


async def _check_length(count: int, max_bytes: int, allowance: Allowance | None) -> None:
    """
    Raises:
        Refusal: 413, or that of the allowance.
    """
    check_length(count, max_bytes)
    if allowance is not None:
        await allowance.check_bytes(count)
