"""A request's body, read within bounds: of its length, its time, and its cost before its token is
verified."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from mcp_adapter.gate.refusals import Refusal
from mcp_adapter.gate.strict_json import has_many_values


class Allowance:
    """How long and how large a request's body may be before its token is verified.

    Args:
        max_bytes: longest body without a verified token.
        verify: verifies the token. Raises ``Refusal`` where nothing more is to be read, which names
            the setting that it is given.
    """

    def __init__(self, max_bytes: int, verify: Callable[[str], Awaitable[None]]) -> None:
        self._max_bytes = max_bytes
        self._verify = verify
        self._is_verified = False

    async def check_bytes(self, count: int) -> None:
        """Verify the token, once, if the body is longer than it may be without.

        Raises:
            Refusal: of ``verify``.
        """
        if count > self._max_bytes:
            await self._verify_once("max_anonymous_body_bytes")

    async def check_values(self, body: bytes) -> None:
        """Verify the token, once, if the body may hold more values than it may without.

        Raises:
            Refusal: of ``verify``.
        """
        if has_many_values(body):
            await self._verify_once("")  # no setting changes how many

    async def _verify_once(self, setting: str) -> None:
        if not self._is_verified:
            await self._verify(setting)
            self._is_verified = True


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
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json.")
    body = bytearray()
    try:
        # Takes half the time of anyio's, which every request would pay.
        async with asyncio.timeout(timeout_seconds):
            # A body that declares to be too long is refused before it arrives.
            await _check_length(_declared_bytes(headers), max_bytes, allowance)
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


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` and then what ``receive`` still has."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


def _declared_bytes(headers: Headers) -> int:
    """The value of Content-Length; 0 without it."""
    for name, value in headers.raw:
        if name == b"content-length" and value.isdigit():
            # Python converts no more than 4,300 digits, and no body has 20.
            return int(value.lstrip(b"0")[:20] or b"0")
    return 0


async def _check_length(count: int, max_bytes: int, allowance: Allowance | None) -> None:
    """
    Raises:
        Refusal: 413, or that of the allowance.
    """
    if count > max_bytes:
        raise _too_large(max_bytes)
    if allowance is not None:
        await allowance.check_bytes(count)


def _too_large(max_bytes: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot be used again.
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {max_bytes} bytes.",
        headers={"Connection": "close"},
        setting="max_body_bytes",
    )
