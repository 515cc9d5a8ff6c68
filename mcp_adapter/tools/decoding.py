"""Bytes of an object as text: in which encoding, and where a piece of it may end. Pure."""

from __future__ import annotations

import base64
import codecs
import re
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["utf-8", "utf-16-le", "utf-16-be", "iso-8859-1", "windows-1252", "base64"]

_CHARSETS: dict[str, Encoding] = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "iso-8859-1": "iso-8859-1",
    "windows-1252": "windows-1252",
}
"""By their names in Content-Type. What has another one is read as UTF-8, or not as text."""

_CHARSET = re.compile(r';\s*charset="?([\w-]+)', re.IGNORECASE)

_MARKS: tuple[tuple[bytes, Encoding], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

SHORTEST_PIECE = 16
"""Bytes that hold a byte order mark and a character of any encoding, whole."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text, and the bytes of the object that it is.

    Attributes:
        text: without a byte order mark.
        encoding: ``base64`` where the bytes are not text.
        start: of the first byte, in the object.
        end: behind the last byte.
    """

    text: str
    encoding: Encoding
    start: int
    end: int


def decoded(data: bytes, *, start: int, is_end: bool, encoding: Encoding) -> Piece:
    """The text in a range of an object.

    A range may cut a character. One at its end is left to the next piece; the rest of one at its
    start, in UTF-8, is left out, and ``start`` counts from there. Bytes that are not text in
    ``encoding`` come as base64, so that nothing is lost and nothing is made up.

    Args:
        data: the range's bytes.
        start: where they begin in the object.
        is_end: whether they reach its end.
        encoding: what to read them as.
    """
    whole = Piece(base64.b64encode(data).decode(), "base64", start, start + len(data))
    if encoding == "base64":
        return whole
    skipped = _rest_of_character(data) if start and encoding == "utf-8" else 0
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        text = decoder.decode(data[skipped:], final=is_end)
    except UnicodeDecodeError:
        return whole
    pending = len(decoder.getstate()[0])
    if not start:
        text = text.removeprefix("\ufeff")
    return Piece(text, encoding, start + skipped, start + len(data) - pending)


def detected(data: bytes, *, start: int, content_type: str) -> Encoding:
    """The encoding of a range: of its byte order mark, else of Content-Type, else UTF-8."""
    for mark, encoding in _MARKS if start == 0 else ():
        if data.startswith(mark):
            return encoding
    charset = _CHARSET.search(content_type)
    return _CHARSETS.get(charset[1].lower(), "utf-8") if charset else "utf-8"


def _rest_of_character(data: bytes) -> int:
    """Bytes at the start that continue a character of UTF-8 which begins before them."""
    count = 0
    while count < min(3, len(data)) and data[count] & 0xC0 == 0x80:
        count += 1
    return count
