"""Ranges of bytes as text: nothing lost, nothing added."""

from __future__ import annotations

import base64
import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_adapter.tools.decoding import SHORTEST_PIECE, Encoding, decoded, detected


def _of_bytes(encoding: Encoding) -> st.SearchStrategy[str]:
    """The characters of an encoding with a byte for each. Hypothesis takes seconds to find them."""
    every = bytes(range(256)).decode(encoding, errors="ignore")
    return st.sampled_from(every)


CHARACTERS: dict[Encoding, st.SearchStrategy[str]] = {
    "utf-8": st.characters(codec="utf-8"),
    "utf-16-le": st.characters(codec="utf-8"),
    "utf-16-be": st.characters(codec="utf-8"),
    "iso-8859-1": _of_bytes("iso-8859-1"),
    "windows-1252": _of_bytes("windows-1252"),
}


def no_byte_order_mark(text: str) -> bool:
    return not text.startswith("\ufeff")


def pieces(data: bytes, encoding: Encoding, size: int) -> list[str]:
    """An object's text, piece by piece, each begun where the one before ended."""
    texts, start = [], 0
    while start < len(data):
        cut = data[start : start + size]
        piece = decoded(cut, start=start, is_end=start + size >= len(data), encoding=encoding)
        assert piece.encoding == encoding
        assert piece.start == start < piece.end
        texts.append(piece.text)
        start = piece.end
    return texts


@pytest.mark.parametrize("encoding", CHARACTERS)
@given(data=st.data())
def test_pieces_make_up_the_whole(encoding: Encoding, data: st.DataObject) -> None:
    text = data.draw(st.text(CHARACTERS[encoding], max_size=200).filter(no_byte_order_mark))
    size = data.draw(st.integers(SHORTEST_PIECE, 64))
    assert "".join(pieces(text.encode(encoding), encoding, size)) == text


@given(data=st.binary(max_size=100), start=st.integers(0, 5), is_end=st.booleans())
def test_every_byte_is_accounted_for(data: bytes, start: int, is_end: bool) -> None:
    piece = decoded(data, start=start, is_end=is_end, encoding="utf-8")
    assert start <= piece.start <= piece.end <= start + len(data)
    bytes_of_it = data[piece.start - start : piece.end - start]
    if piece.encoding == "base64":
        assert base64.b64decode(piece.text) == bytes_of_it == data
    else:
        assert piece.text.encode().removeprefix(codecs.BOM_UTF8) == bytes_of_it.removeprefix(
            codecs.BOM_UTF8 if start == 0 else b""
        )
        if is_end:
            assert piece.end == start + len(data)


def test_a_range_that_begins_within_a_character_says_so() -> None:
    piece = decoded("a✓b".encode()[2:], start=2, is_end=True, encoding="utf-8")
    assert (piece.text, piece.start, piece.end) == ("b", 4, 5)


def test_an_object_cut_off_within_a_character_is_not_text() -> None:
    assert decoded("✓".encode()[:2], start=0, is_end=True, encoding="utf-8").encoding == "base64"


@pytest.mark.parametrize(
    ("data", "content_type", "encoding"),
    [
        (b"x", "", "utf-8"),
        (b"x", "text/plain", "utf-8"),
        (b"x", "text/plain; charset=ISO-8859-1", "iso-8859-1"),
        (b"x", 'text/plain;charset="windows-1252"; x=y', "windows-1252"),
        (b"x", "text/plain; charset=rot13", "utf-8"),
        (codecs.BOM_UTF16_LE + b"x\0", "text/plain; charset=utf-8", "utf-16-le"),
        (codecs.BOM_UTF16_BE + b"\0x", "", "utf-16-be"),
        (codecs.BOM_UTF8 + b"x", "text/plain; charset=iso-8859-1", "utf-8"),
    ],
)
def test_what_an_object_is_read_as(data: bytes, content_type: str, encoding: Encoding) -> None:
    assert detected(data, start=0, content_type=content_type) == encoding
    piece = decoded(data, start=0, is_end=True, encoding=encoding)
    assert piece.text.strip("\0") == "x" or encoding == "utf-16-le"
    assert "\ufeff" not in piece.text


def test_a_byte_order_mark_counts_at_the_start_alone() -> None:
    assert detected(codecs.BOM_UTF16_LE, start=2, content_type="") == "utf-8"
