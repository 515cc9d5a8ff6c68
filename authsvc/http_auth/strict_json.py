"""JSON that can be read in one way, within bounds that are checked before it is parsed."""

from __future__ import annotations

import gc
import json
import math
import re
from functools import partial
from http import HTTPStatus
from itertools import accumulate
from typing import Any, NoReturn

from mcp_types import PARSE_ERROR

from authsvc.http_auth.refusals import Refusal, bad_request

MAX_VALUES = 100_000
"""Commas and opening brackets outside strings in one body, at most: one for each value in an array
or object, and one for each empty array or object."""

MAX_DEPTH = 100
"""Arrays and objects within each other, at most."""

FEW_VALUES = 1_000
"""What a body may hold before its token is verified. Parsing as many takes a tenth of a ms."""


def decode(body: bytes) -> Any:  # noqa: ANN401 - of any type
    """What a body holds.

    UTF-8 alone, no duplicate members, no NaN, no half of a surrogate pair, no number beyond floats:
    all parsers read it in the same way, and all of it can be encoded again.

    Raises:
        Refusal: 413 for more than ``MAX_VALUES``, before anything is parsed; 400 with -32700 for
            what is nested more than ``MAX_DEPTH`` deep or not such JSON; with -32600 for a number
            beyond floats, and for what cannot be encoded.
    """
    has_many = has_many_values(body)
    if has_many or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_structure(body)
    try:
        text = body.decode()
        decoder = _LONG_NUMBERS_DECODER if _has_long_number(body) else _DECODER
        value = _decoded_at_once(decoder, text) if has_many else decoder.decode(text)
    except _OutOfRangeError:
        raise bad_request("A number is out of range.") from None
    except (ValueError, RecursionError):
        # ValueError covers bad UTF-8, besides bad JSON.
        raise bad_request("The body is not valid JSON.", code=PARSE_ERROR) from None
    if "\\u" in text and _SURROGATE.search(text) and not _is_encodable(value):
        raise bad_request("A string holds half of a surrogate pair.")
    return value


def has_many_values(body: bytes) -> bool:
    """Whether a body may hold more values than are parsed before its token is verified."""
    return _values_at_most(body) > FEW_VALUES


def _values_at_most(body: bytes) -> int:
    """How many values a body holds, or more: what is in its strings counts here."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _check_structure(body: bytes) -> None:
    """In linear time, and a few ms for the longest body; it does not check that it is JSON.

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


def _is_encodable(value: object) -> bool:
    """Whether all strings of a value can be encoded. To encode the value itself takes several times
    as long."""
    strings: list[str] = []
    pending: list[object] = [value]
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
    # Few bodies have such digits, in a string or not, so most are scanned once.
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


def _too_many_values() -> Refusal:
    message = f"The body holds more than {MAX_VALUES} values."
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
