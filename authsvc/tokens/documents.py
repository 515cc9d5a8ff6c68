"""Tolerant parsing of the documents that an issuer publishes: JWK Sets and metadata.

A reader ignores members that it does not understand, in a JWK Set (RFC 7517 section 5) and in
metadata (RFC 8414 section 2). An unreadable document counts as an outage, during which withdrawn
keys stay in use. Therefore a document is unreadable only if parsers would disagree on its meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from itertools import pairwise

from authsvc.tokens.compact import MAX_INTEGER_CHARACTERS, check_nesting

MAX_DOCUMENT_NESTING = 256
"""Deepest nesting of a document. The parser is recursive and permits about three times as much."""


class DuplicateMembers(dict[str, object]):
    """An object with a duplicate member, which parsers may read in different ways.

    Attributes:
        names: the duplicate members.
    """

    def __init__(self, members: list[tuple[str, object]]) -> None:
        super().__init__(members)
        names = sorted(name for name, _ in members)
        self.names = frozenset(name for name, following in pairwise(names) if name == following)


def parse_document(document: bytes, understood: Collection[str]) -> dict[str, object]:
    """A JSON object that an issuer publishes.

    Beyond RFC 8259 it may have a byte order mark, be in UTF-16 or UTF-32, and have bytes of another
    encoding in strings, line breaks in strings, and NaN or Infinity as values. None of these
    changes where a member begins and ends. Such bytes become lone surrogates, and an integer that
    takes long to parse becomes infinity.

    Args:
        document: what was read or fetched.
        understood: the members that the caller reads. Only they must not be duplicate.

    Raises:
        ValueError: it is no JSON object, is nested beyond ``MAX_DOCUMENT_NESTING``, or one of
            ``understood`` is duplicate. The message does not quote the document.
    """
    try:
        encoding = json.detect_encoding(document)
        # A byte by itself would shift all that follows in UTF-16 and UTF-32.
        errors = "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass"
        text = document.decode(encoding, errors)
        check_nesting(text, MAX_DOCUMENT_NESTING)
        value = _DECODER.decode(text)
    except ValueError:
        raise ValueError("is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    if isinstance(value, DuplicateMembers) and not value.names.isdisjoint(understood):
        raise ValueError(f"has a member twice: {min(value.names.intersection(understood))}")
    return value


def parse_jwk_set(document: bytes) -> list[object]:
    """The entries of a JWK Set, of any type.

    Faults inside an entry do not affect the others: an entry with a duplicate member is a
    ``DuplicateMembers``. ``"keys": null`` is an empty set: Go writes an empty list so.

    Raises:
        ValueError: as ``parse_document``, or without exactly one ``keys`` that is an array.
    """
    jwk_set = parse_document(document, ["keys"])
    entries = jwk_set.get("keys", {})
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise ValueError('is not a JWK Set: {"keys": [{…}, …]}')
    return entries


def _marked(members: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(members)
    return value if len(value) == len(members) else DuplicateMembers(members)


def _integer(digits: str) -> float:
    # No member of a key is a number: any value is as wrong as any other.
    return int(digits) if len(digits) <= MAX_INTEGER_CHARACTERS else math.inf


_DECODER = json.JSONDecoder(object_pairs_hook=_marked, parse_int=_integer, strict=False)
