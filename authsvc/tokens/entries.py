"""Reading a JWK Set so that one odd entry stays one odd entry (RFC 7517 section 5)."""

from __future__ import annotations

import json
from typing import NoReturn

from authsvc.tokens.compact import MAX_INTEGER_CHARACTERS, check_nesting


class DuplicateMembers(dict[str, object]):
    """An object in which some member is there twice: no two parsers need to read it alike."""


def parse_jwk_set(document: bytes) -> list[object]:
    """The entries of a JWK Set, whatever they are.

    What is wrong inside an entry is for the entry to answer for: it is found here as a
    ``DuplicateMembers``, or as a value that is no key's.

    Raises:
        ValueError: not JSON in UTF-8, nested too deeply, or without exactly one ``keys`` that is an
            array. The message does not quote the document.
    """
    try:
        text = document.decode("utf-8")
        check_nesting(text)
        value = _DECODER.decode(text)
    except ValueError:
        raise ValueError("is not JSON") from None
    if not isinstance(value, dict) or isinstance(value, DuplicateMembers):
        raise ValueError("is not a JSON object without duplicate members")
    entries = value.get("keys")
    if not isinstance(entries, list):
        raise ValueError('is not a JWK Set: {"keys": [{…}, …]}')
    return entries


def _marked(members: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(members)
    return value if len(value) == len(members) else DuplicateMembers(value)


def _integer(digits: str) -> int | None:
    # No member of a key is a number: what is too long to read in no time is as wrong as None.
    return int(digits) if len(digits) <= MAX_INTEGER_CHARACTERS else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_marked, parse_int=_integer, parse_constant=_refuse_constant
)
