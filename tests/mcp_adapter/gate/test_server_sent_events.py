"""Events of a stream: complete ones, whatever pieces they come in, and their data."""

from __future__ import annotations

import pytest

from mcp_adapter.gate.server_sent_events import EventReader, with_data

EVENTS = [b"event: message\nid: 1\ndata: {}\n\n", b": a comment\n\n", b"data: a\ndata: b\n\n"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_in_pieces_of_any_length(end: bytes) -> None:
    expected = [event.replace(b"\n", end) for event in EVENTS]
    text = b"".join(expected)

    for length in range(1, len(text) + 1):
        reader = EventReader(1000)
        pieces = [text[place : place + length] for place in range(0, len(text), length)]
        assert [event for piece in pieces for event in reader.complete(piece)] == expected
        assert reader.rest() == b""


def test_an_event_is_complete_with_its_last_byte() -> None:
    reader = EventReader(1000)

    assert reader.complete(b"data: 1\r\n\r") == []
    assert reader.complete(b"\ndata: 2") == [b"data: 1\r\n\r\n"]
    assert reader.rest() == b"data: 2"
    assert reader.rest() == b""


def test_events_with_other_ends_of_lines() -> None:
    reader = EventReader(1000)

    assert reader.complete(b"data: 1\r\rdata: 2\n\r\ndata: 3\r\n\n ") == [
        b"data: 1\r\r",
        b"data: 2\n\r\n",
        b"data: 3\r\n\n",
    ]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 6] * 2, [b"x" * 9 + b"\n\n"]])
def test_an_event_that_is_too_long(pieces: list[bytes]) -> None:
    *before, last = pieces
    reader = EventReader(10)
    for piece in before:
        assert reader.complete(piece) == []

    with pytest.raises(OverflowError):
        reader.complete(last)


def test_many_short_events_are_no_long_one() -> None:
    assert EventReader(10).complete(b"data: 1\n\n" * 3) == [b"data: 1\n\n"] * 3


@pytest.mark.parametrize("event", [*EVENTS, b"data\n\n", b"data:\n\n", b"\n", b""])
def test_an_event_whose_data_stays_is_the_same(event: bytes) -> None:
    assert with_data(event, bytes) is event


@pytest.mark.parametrize(
    ("event", "data", "changed"),
    [
        (b"data: a\n\n", b"a", b"data: new\n\n"),
        (b"data:a\r\n\r\n", b"a", b"data: new\n\n"),
        (b"data:  a\n\n", b" a", b"data: new\n\n"),
        (b"id: 1\rdata: a\rdata\rdata: b\r\r", b"a\n\nb", b"id: 1\ndata: new\n\n"),
        (b": comment\ndata: a\nretry: 5\n\n", b"a", b": comment\nretry: 5\ndata: new\n\n"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a", b"data: new\n\n"),
        (b"database: a\n\n", b"", b"database: a\ndata: new\n\n"),
        (b"data: a", b"a", b"data: new\n\n"),
    ],
)
def test_changed_data(event: bytes, data: bytes, changed: bytes) -> None:
    seen: list[bytes] = []

    def change(text: bytes) -> bytes:
        seen.append(text)
        return b"new"

    assert with_data(event, change) == changed
    assert seen == [data]
