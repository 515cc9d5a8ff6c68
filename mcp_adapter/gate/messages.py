"""JSON-RPC messages in HTTP bodies: read within bounds, parsed once."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from http import HTTPStatus
from itertools import accumulate
from typing import Any, NoReturn, TypeGuard

from mcp_types import PARSE_ERROR, RequestId
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message as Event
from starlette.types import Receive

from mcp_adapter.gate.refusals import Refusal, bad_request

MAX_BATCH = 50
"""Messages in one batch, at most."""

MAX_VALUES = 100_000
"""Commas and opening brackets outside strings in one body, at most: one for each value in an array
or object, and one for each empty array or object."""

MAX_DEPTH = 100
"""Arrays and objects within each other, at most."""

FEW_VALUES = 1_000
"""What a body may hold before its token is verified. Parsing as many takes a tenth of a ms."""

MAX_REQUEST_ID = 2**63 - 1
"""Largest number that is an id; the smallest is its negative."""

Message = dict[str, Any] | list[Any]
"""A JSON-RPC message, or a batch of them: an object or an array, its members not yet checked."""


class Allowance:
    """What a request's body may be before its token is known to be valid.

    Args:
        max_bytes: so long without a look at the token.
        verify: verifies the token. Raises ``Refusal`` where nothing more is to be read.
    """

    def __init__(self, max_bytes: int, verify: Callable[[], Awaitable[None]]) -> None:
        self._max_bytes = max_bytes
        self._verify = verify
        self._is_verified = False

    async def check_bytes(self, count: int) -> None:
        """Verify the token, once, if the body is longer than it may be without.

        Raises:
            Refusal: of ``verify``.
        """
        if count > self._max_bytes:
            await self._verify_once()

    async def check_values(self, body: bytes) -> None:
        """Verify the token, once, if the body may hold more values than it may without.

        Raises:
            Refusal: of ``verify``.
        """
        if has_many_values(body):
            await self._verify_once()

    async def _verify_once(self) -> None:
        if not self._is_verified:
            await self._verify()
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
        timeout_seconds: how long it may take to arrive.
        allowance: what it may be before its token is verified; None for anything.

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
        # Half of what anyio's takes, for each request.
        async with asyncio.timeout(timeout_seconds):
            # What is too long by its own account is not waited for.
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
        ) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` and then what ``receive`` still has."""
    pending: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Event:
        return pending.pop() if pending else await receive()

    return receive_again


def parse(body: bytes) -> Message:
    """The message or batch in a body.

    UTF-8 alone, no duplicate members, no NaN, no half of a surrogate pair, no number beyond floats:
    there is one way to read it, so that what was authorised is what the application behind the gate
    executes, whatever its parser does, and all of it can be encoded again.

    Raises:
        Refusal: 413 for more than ``MAX_VALUES``, before anything is parsed; 400 with -32700 for
            what is nested more than ``MAX_DEPTH`` deep or not such JSON; with -32600 for what is
            neither an object nor an array of 1 to ``MAX_BATCH`` entries, for a method that is not a
            string, an id that is neither a string nor an integer, for a number beyond floats, and
            for what cannot be encoded.
    """
    has_many = has_many_values(body)
    if has_many or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_structure(body)
    try:
        text = body.decode()
        decoder = _LONG_NUMBERS_DECODER if _has_long_number(body) else _DECODER
        message = _decoded_at_once(decoder, text) if has_many else decoder.decode(text)
    except _OutOfRangeError:
        raise bad_request("A number is out of range.") from None
    except (ValueError, RecursionError):
        # ValueError covers bad UTF-8, besides bad JSON.
        raise bad_request("The body is not valid JSON.", code=PARSE_ERROR) from None
    if isinstance(message, list) and not 0 < len(message) <= MAX_BATCH:
        raise bad_request(f"A batch holds 1 to {MAX_BATCH} messages.")
    if not isinstance(message, dict | list):
        raise bad_request("The body is not a JSON-RPC message.")
    for entry in entries(message):
        _check_envelope(entry)
    if "\\u" in text and _SURROGATE.search(text) and not _is_encodable(message):
        raise bad_request("A string holds half of a surrogate pair.")
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
    return request_id if _is_request_id(request_id) else None


def _check_envelope(entry: dict[str, Any]) -> None:
    """
    Raises:
        Refusal: 400 for a method or an id that is none.
    """
    if not isinstance(entry.get("method", ""), str):
        raise bad_request("A method is a string.")
    # An error without an id has null for it (JSON-RPC 2.0 section 5); a request of MCP has not.
    if "id" in entry and not (_is_request_id(entry["id"]) or _is_error_without_id(entry)):
        raise bad_request("An id is a string or an integer of 64 bits.")


def _is_error_without_id(entry: dict[str, Any]) -> bool:
    return entry["id"] is None and "error" in entry and "method" not in entry


def _is_request_id(value: object) -> TypeGuard[RequestId]:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= MAX_REQUEST_ID
    return isinstance(value, str)


def has_many_values(body: bytes) -> bool:
    """Whether a body may hold more values than are parsed before its token is verified."""
    return _values_at_most(body) > FEW_VALUES


def _values_at_most(body: bytes) -> int:
    """How many values a body holds, or more: what is in its strings counts here."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _check_structure(body: bytes) -> None:
    """In linear time, and a few ms for the longest body; whether it is JSON is not looked at.

    Raises:
        Refusal: 413 for too many values, 400 for too deep a nesting.
    """
    structure = _outside_strings(body)
    if _values_at_most(structure) > MAX_VALUES:
        raise _too_many_values()
    if structure.count(b"[") + structure.count(b"{") > MAX_DEPTH:
        brackets = structure.translate(None, delete=_NO_BRACKETS)
        if max(accumulate(map(_STEPS.__getitem__, brackets))) > MAX_DEPTH:
            message = f"The body is nested more than {MAX_DEPTH} deep."
            raise bad_request(message, code=PARSE_ERROR)


def _outside_strings(body: bytes) -> bytes:
    """
    Raises:
        Refusal: 413 for so many strings that there are too many values.
    """
    # Escapes first, the escaped backslash before all: then each quotation mark is a string's end.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Each value and each name is a string at most, and has two of them.
    if plain.count(b'"') > 4 * MAX_VALUES:
        raise _too_many_values()
    return b"".join(plain.split(b'"')[::2])


_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair as JSON spells it; or what follows upon an escaped backslash."""


def _is_encodable(message: Message) -> bool:
    """Whether all strings of a message are UTF-8. To encode the message takes several times as
    long."""
    strings: list[str] = []
    pending: list[object] = [message]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            strings.append(value)
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            strings.extend(value)
            pending.extend(value.values())
    try:
        "".join(strings).encode()
    except UnicodeEncodeError:
        return False
    return True


_LONG_NUMBER = b"0" * 309
"""As many digits as the largest float has: no shorter integer is beyond floats."""

_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)


def _has_long_number(body: bytes) -> bool:
    """Whether a body may hold an integer beyond floats: such digits outside strings.

    In linear time: a regular expression that counts digits takes 400 times as long at its worst.

    Raises:
        Refusal: 413 for too many values.
    """
    # Few bodies have such digits, in a string or not, so most are looked at once.
    return _has_long_digits(body) and _has_long_digits(_outside_strings(body))


def _has_long_digits(text: bytes) -> bool:
    return len(text) >= len(_LONG_NUMBER) and _LONG_NUMBER in text.translate(_DIGITS_TO_ZERO)


def _decoded_at_once(decoder: json.JSONDecoder, text: str) -> Any:  # noqa: ANN401 - of any type
    """What a text holds, decoded without garbage collection: there are no cycles in it, and nine
    tenths of the time would go into looking for them."""
    if not gc.isenabled():
        return decoder.decode(text)
    gc.disable()
    try:
        return decoder.decode(text)
    finally:
        gc.enable()


class _OutOfRangeError(ValueError):
    """A number is beyond floats."""


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise _OutOfRangeError
    return value


def _integer_within_floats(number: str) -> int:
    # float() takes linear time, and int() quadratic.
    _finite(number)
    return int(number)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_new_decoder = partial(
    json.JSONDecoder,
    object_pairs_hook=_unique_members,
    parse_constant=_refuse_constant,
    parse_float=_finite,
)

_DECODER = _new_decoder()
"""Made once: ``json.loads`` makes one for each message, at half of what it takes to parse it."""

_LONG_NUMBERS_DECODER = _new_decoder(parse_int=_integer_within_floats)
"""For bodies with long integers alone: it calls Python for each integer."""


def _declared_bytes(headers: Headers) -> int:
    """What Content-Length says; 0 without it."""
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


def _too_many_values() -> Refusal:
    message = f"The body holds more than {MAX_VALUES} values."
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _too_large(max_bytes: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot be used again.
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {max_bytes} bytes.",
        headers={"Connection": "close"},
    )
