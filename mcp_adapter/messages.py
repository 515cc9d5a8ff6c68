"""JSON-RPC messages in HTTP bodies: read within bounds, parsed once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, NoReturn

from mcp_types import PARSE_ERROR, RequestId
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message as Event
from starlette.types import Receive

from mcp_adapter.refusals import Refusal, bad_request

MAX_BATCH = 50
"""Messages in one batch, at most."""

Message = dict[str, Any] | list[Any]
"""A JSON-RPC message, or a batch of them: an object or an array, its members not yet checked."""


async def read_body(
    receive: Receive, headers: Headers, *, max_bytes: int, timeout_seconds: float
) -> bytes:
    """A request's whole body.

    Raises:
        Refusal: 413 for more than ``max_bytes``, whatever Content-Length says; 408 when it takes
            longer than ``timeout_seconds``; 415 unless it is declared to be JSON.
        ClientDisconnect: the client left.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json.")
    body = bytearray()
    try:
        # Half of what anyio's takes, for each request.
        async with asyncio.timeout(timeout_seconds):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += event.get("body", b"")
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                if not event.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The request was not complete after {timeout_seconds:g} seconds.",
            headers={"Connection": "close"},
        ) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` and then what ``receive`` still has."""
    pending: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Event:
        return pending.pop() if pending else await receive()

    return receive_again


def parse(body: bytes) -> Message:
    """The message or batch in a body.

    UTF-8 alone, no duplicate members, no NaN: there is one way to read it, so that what was
    authorised is what the application behind the gate executes, whatever its parser does.

    Raises:
        Refusal: 400 with -32700 for what is not such JSON or nested too deeply, with -32600 for
            what is neither an object nor an array of 1 to ``MAX_BATCH`` entries, or whose method is
            not a string.
    """
    try:
        message = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        # ValueError covers bad UTF-8 and integers too long to convert, besides bad JSON.
        raise bad_request("The body is not valid JSON.", code=PARSE_ERROR) from None
    if isinstance(message, list) and not 0 < len(message) <= MAX_BATCH:
        raise bad_request(f"A batch holds 1 to {MAX_BATCH} messages.")
    if not isinstance(message, dict | list):
        raise bad_request("The body is not a JSON-RPC message.")
    for entry in entries(message):
        if not isinstance(entry.get("method", ""), str):
            raise bad_request("A method is a string.")
    return message


def entries(message: Message) -> Iterator[dict[str, Any]]:
    """The objects in a message or batch."""
    for entry in message if isinstance(message, list) else [message]:
        if isinstance(entry, dict):
            yield entry


def calls(message: Message) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(method, params)`` of each request and notification in a message or batch.

    Params that are not an object are given as an empty one; no handler ever gets to see them.
    """
    for entry in entries(message):
        if "method" in entry:
            params = entry.get("params")
            yield entry["method"], params if isinstance(params, dict) else {}


def request_id_of(message: Message) -> RequestId | None:
    """The id that an answer to the whole message carries; None for a batch or a bad one."""
    request_id = message.get("id") if isinstance(message, dict) else None
    if isinstance(request_id, str | int) and not isinstance(request_id, bool):
        return request_id
    return None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
"""Made once: ``json.loads`` makes one for each message, at half of what it takes to parse it."""


def _too_large(max_bytes: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot be used again.
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {max_bytes} bytes.",
        headers={"Connection": "close"},
    )
