"""What HTTP/2 and gRPC demand of a client, by a peer that breaks the rules and one that stretches
them."""

from __future__ import annotations

import base64
import logging
from contextlib import suppress
from itertools import pairwise

import grpc
import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from authsvc.client.http2.call import (
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_INTERIM_RESPONSES,
    GrpcCall,
)
from authsvc.client.http2.flow import DEFAULT_WINDOW, MAX_WINDOW, RECEIVE_WINDOW
from authsvc.client.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_FRAME_BYTES,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ErrorCode,
    Http2Error,
    frame,
    widen,
)
from authsvc.client.http2.header_blocks import MAX_BLOCK_BYTES, request_block
from authsvc.client.http2.messages import MAX_MESSAGE_BYTES
from authsvc.client.http2.status import CallEnd
from tests.authsvc.client.http2.peer import (
    RESPONSE,
    TRAILERS,
    Recorder,
    answered,
    begun,
    block,
    content,
    data,
    go_away,
    headers,
    message,
    new_call,
    reset,
    sent,
    settings,
    settings_ack,
)

OK = CallEnd(grpc.StatusCode.OK)


def may_begin(call: GrpcCall) -> bool:
    """Whether the peer accepts a call."""
    return call.may_begin


def end_in(recorder: Recorder) -> CallEnd | None:
    """How a call has ended."""
    return recorder.end


def test_it_begins_with_the_preface_and_its_settings() -> None:
    call = new_call()
    assert b"".join(call.output).startswith(PREFACE)
    first, second = sent(call)
    assert first[:3] == (SETTINGS, 0, 0)
    assert bytes.fromhex("0001 00000000") in first[3]  # no header table
    assert bytes.fromhex("0002 00000000") in first[3]  # no push
    assert second == (WINDOW_UPDATE, 0, 0, (RECEIVE_WINDOW - DEFAULT_WINDOW).to_bytes(4))
    assert not may_begin(call)
    call.receive(settings())
    assert may_begin(call)
    assert sent(call) == [settings_ack()]


def test_the_headers_of_a_request() -> None:
    call = new_call()
    call.receive(settings((HEADER_TABLE_SIZE, 0)))
    call.output.clear()
    call.begin("/a.B/C", (("authorization", "Bearer t"),), Recorder())
    [(kind, flags, stream_id, payload)] = sent(call)
    assert (kind, flags, stream_id) == (HEADERS, END_HEADERS, 1)
    found = list(Decoder().decode(payload))
    pairs: list[tuple[object, ...]] = [tuple(it) for it in found]
    assert pairs == [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        (":authority", "authsvc.example:50051"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", "Bearer t"),
    ]
    assert not found[-1].indexable


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 16_510, 16_511])
def test_values_of_any_length_are_encoded(size: int) -> None:
    block = request_block("/a.B/C", "h", "http", (("authorization", "t" * size),))
    *_, last = Decoder().decode(block)
    assert (str(last[0]), str(last[1])) == ("authorization", "t" * size)
    assert not last.indexable


def test_no_log_has_the_service_token(caplog: pytest.LogCaptureFixture) -> None:
    """hpack logs the blocks that it encodes."""
    caplog.set_level(logging.DEBUG)
    call = new_call()
    call.receive(settings())
    call.begin("/a.B/C", (("authorization", "Bearer hush"),), Recorder())
    call.receive(headers(*RESPONSE))
    assert "hush" not in caplog.text


def test_large_request_headers_are_continued() -> None:
    call = new_call()
    call.receive(settings())
    call.output.clear()
    call.begin("/a.B/C", (("authorization", "t" * 40_000),), Recorder())
    frames = sent(call)
    assert [frame[:3] for frame in frames] == [
        (HEADERS, 0, 1),
        (CONTINUATION, 0, 1),
        (CONTINUATION, END_HEADERS, 1),
    ]
    *_, last = Decoder().decode(b"".join(frame[3] for frame in frames))
    assert str(last[1]) == "t" * 40_000


def test_a_call_from_begin_to_end() -> None:
    call, recorder = begun()
    call.send((b"one", b"two"), 6)
    assert sent(call) == [(DATA, 0, 1, message(b"onetwo"))]
    call.receive(headers(*RESPONSE) + data(message(b"answer") + message(b"")))
    assert recorder.messages == [b"answer", b""]
    call.finish()
    assert sent(call) == [(DATA, END_STREAM, 1, b"")]
    # Whatever follows concerns nobody.
    call.receive(headers(*TRAILERS, end=True) + data(message(b"late")) + frame(SETTINGS, 0, 1))
    assert recorder.end == OK
    assert recorder.messages == [b"answer", b""]


RESPONSES = (
    frame(HEADERS, 0, 1, block(RESPONSE)[:3])
    + frame(CONTINUATION, 0, 1)
    + frame(CONTINUATION, END_HEADERS, 1, block(RESPONSE)[3:])
    + data(message(b"a" * 300)[:2])
    + frame(PING, 0, 0, b"12345678")
    + data(message(b"a" * 300)[2:])
    + frame(0xFA, 0xFF, 77, b"of a type that nobody knows")
    + data(b"\x03" + message(b"padded") + bytes(3), flags=PADDED)
    + settings((INITIAL_WINDOW_SIZE, 10))
    + data(message(b"") + message(b"b") + message(b"c" * 20_000)[:100])
    + frame(PRIORITY, 0, 1, bytes(5))
    + data(message(b"c" * 20_000)[100 : 100 + MAX_FRAME_BYTES])
    + data(message(b"c" * 20_000)[100 + MAX_FRAME_BYTES :])
    + widen(1, 100)
    + go_away(1)
    + headers(*TRAILERS, end=True)
)
MESSAGES = [b"a" * 300, b"padded", b"", b"b", b"c" * 20_000]


def test_any_segment_may_be_one_byte() -> None:
    call, recorder = begun()
    for byte in RESPONSES:
        call.receive(bytes((byte,)))
    assert (recorder.messages, recorder.end) == (MESSAGES, OK)
    assert call.is_going_away


@given(st.lists(st.integers(0, len(RESPONSES)), max_size=20))
def test_segments_do_not_matter(cuts: list[int]) -> None:
    call, recorder = begun()
    bounds = [0, *sorted(cuts), len(RESPONSES)]
    for start, end in pairwise(bounds):
        call.receive(RESPONSES[start:end])
    assert (recorder.messages, recorder.end) == (MESSAGES, OK)


@given(st.lists(st.binary(max_size=40_000), max_size=5), st.integers(1, MAX_FRAME_BYTES))
def test_messages_are_whole_however_they_are_cut(contents: list[bytes], size: int) -> None:
    call, recorder = answered()
    stream = b"".join(map(message, contents))
    for start in range(0, len(stream), size):
        call.receive(data(stream[start : start + size]))
    assert recorder.messages == contents


# Flow control.


def test_a_message_waits_for_its_window() -> None:
    call, _ = begun((INITIAL_WINDOW_SIZE, 10))
    call.send((b"x" * 20,), 20)
    assert content(call) == message(b"x" * 20)[:10]
    assert not call.may_send
    call.receive(widen(1, 3))
    call.proceed()
    assert content(call) == message(b"x" * 20)[10:13]
    call.finish()
    call.receive(widen(1, 12))
    call.proceed()
    assert sent(call) == [
        (DATA, 0, 1, message(b"x" * 20)[13:]),
        (DATA, END_STREAM, 1, b""),
    ]
    assert not call.may_send


def test_the_window_of_the_connection_counts_too() -> None:
    call, _ = begun((INITIAL_WINDOW_SIZE, MAX_WINDOW))
    call.send((b"x" * 100_000,), 100_000)
    assert len(content(call)) == DEFAULT_WINDOW
    call.receive(widen(0, 50))
    call.proceed()
    assert len(content(call)) == 50


def test_a_window_may_become_negative() -> None:
    call, _ = begun((INITIAL_WINDOW_SIZE, 100))
    call.send((b"x" * 200,), 200)
    assert len(content(call)) == 100
    call.receive(settings((INITIAL_WINDOW_SIZE, 20)))
    call.receive(widen(1, 80))
    call.proceed()
    assert not content(call)
    call.receive(widen(1, 1))
    call.proceed()
    assert len(content(call)) == 1
    call.receive(settings((INITIAL_WINDOW_SIZE, 30)))
    call.proceed()
    assert len(content(call)) == 10


def test_frames_are_as_large_as_the_peer_permits() -> None:
    call, _ = begun()
    call.send((b"x" * 40_000,), 40_000)
    assert [len(it[3]) for it in sent(call)] == [16_384, 16_384, 40_005 - 2 * 16_384]
    call, _ = begun((MAX_FRAME_SIZE, 1 << 15))
    call.send((b"x" * 40_000,), 40_000)
    assert b"".join(call.output)[:3] == (1 << 15).to_bytes(3)


def test_the_peer_is_told_what_was_consumed() -> None:
    call, _ = answered()
    total, widened = 0, {0: 0, 1: 0}
    for _ in range(2 * RECEIVE_WINDOW // 16_000):
        call.receive(data(message(bytes(15_995))))
        total += 16_000
        for kind, _, stream_id, payload in sent(call):
            assert kind == WINDOW_UPDATE
            widened[stream_id] += int.from_bytes(payload)
        assert total - widened[1] <= RECEIVE_WINDOW // 2
    assert widened[0] == widened[1]


def test_more_than_the_window_permits_ends_the_connection() -> None:
    call, _ = answered()
    call._receive_window._received = RECEIVE_WINDOW - 9
    with pytest.raises(Http2Error) as caught:
        call.receive(data(message(b"12345")))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


# What a peer must not do.


def error_of(data: bytes, *, is_begun: bool = True) -> ErrorCode:
    """How the connection ends when this is received first."""
    call = begun()[0] if is_begun else new_call()
    with pytest.raises(Http2Error) as caught:
        call.receive(data)
    return caught.value.code


def error_of_response(data: bytes) -> ErrorCode:
    """How the connection ends when this is received after the response's headers."""
    return error_of(headers(*RESPONSE) + data)


@pytest.mark.parametrize(
    "first",
    [
        headers(*RESPONSE),
        frame(SETTINGS, ACK, 0),
        frame(PING, 0, 0, bytes(8)),
        go_away(0),
        widen(0, 1),
        data(b""),
        frame(0xFA, 0, 0),
    ],
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    assert error_of(first, is_begun=False) is ErrorCode.PROTOCOL_ERROR


def test_http_1_is_no_http_2() -> None:
    error = error_of(b"HTTP/1.1 400 Bad Request\r\n\r\n", is_begun=False)
    assert error is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    "wrong",
    [
        frame(SETTINGS, 0, 0, bytes(5)),
        frame(SETTINGS, ACK, 0, bytes(6)),
        frame(PING, 0, 0, bytes(7)),
        frame(GOAWAY, 0, 0, bytes(7)),
        frame(WINDOW_UPDATE, 0, 0, bytes(3)),
        frame(RST_STREAM, 0, 1, bytes(5)),
        frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, bytes(4)),
        (MAX_FRAME_BYTES + 1).to_bytes(3) + bytes(6),
    ],
)
def test_sizes_of_frames(wrong: bytes) -> None:
    assert error_of(wrong) is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    "wrong",
    [
        data(message(b"before the headers")),
        headers(*RESPONSE, stream_id=3),
        headers(*RESPONSE, stream_id=0),
        reset(0, stream_id=3),
        widen(3, 1),
        widen(1, 0),
        widen(0, 0),
        frame(SETTINGS, 0, 1),
        frame(PING, 0, 1, bytes(8)),
        frame(GOAWAY, 0, 1, bytes(8)),
        frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + block(RESPONSE)),
        frame(CONTINUATION, END_HEADERS, 1, block(RESPONSE)),
        frame(HEADERS, 0, 1) + data(b""),
        frame(HEADERS, 0, 1) + frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, 0, 1) + frame(0xFA, 0, 0),
        frame(HEADERS, 0, 1) + frame(CONTINUATION, END_HEADERS, 3, block(RESPONSE)),
        frame(HEADERS, END_HEADERS | PADDED, 1, b""),
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x03ab"),
        settings((ENABLE_PUSH, 1)),
        settings((MAX_FRAME_SIZE, 16_383)),
        settings((MAX_FRAME_SIZE, 1 << 24)),
    ],
)
def test_rules_of_the_protocol(wrong: bytes) -> None:
    assert error_of(wrong) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "wrong",
    [
        data(message(b"x"), stream_id=3),
        data(message(b"x"), stream_id=0),
        data(b"\x09abcdefgh", flags=PADDED),
        data(b"", flags=PADDED),
        data(b"\x01" + bytes(4)),  # compressed
        headers(("x", "y")),  # trailers that do not end the stream
    ],
)
def test_rules_of_a_response(wrong: bytes) -> None:
    assert error_of_response(wrong) is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "wrong",
    [
        widen(0, MAX_WINDOW),
        widen(1, MAX_WINDOW),
        settings((INITIAL_WINDOW_SIZE, MAX_WINDOW + 1)),
        widen(1, MAX_WINDOW - DEFAULT_WINDOW) + settings((INITIAL_WINDOW_SIZE, 65_536)),
    ],
)
def test_windows_have_a_largest_size(wrong: bytes) -> None:
    assert error_of(wrong) is ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    "wrong",
    [
        frame(HEADERS, END_HEADERS, 1, b"\x80"),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        # An entry of a header table, which the peer was told to keep none of.
        frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f" + block(RESPONSE)),
        # A literal that is longer than its block.
        frame(HEADERS, END_HEADERS, 1, b"\x00\x01x\x7f\xff"),
    ],
)
def test_headers_that_cannot_be_decoded(wrong: bytes) -> None:
    assert error_of(wrong) is ErrorCode.COMPRESSION_ERROR


def test_a_flood_of_continuations_ends() -> None:
    for payload in (b"", b"\x00" * 1000):
        call, _ = begun()
        call.receive(frame(HEADERS, 0, 1))
        with pytest.raises(Http2Error) as caught:
            call.receive(frame(CONTINUATION, 0, 1, payload) * (MAX_BLOCK_BYTES // 9))
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
        assert len(call._header_blocks._block) <= MAX_BLOCK_BYTES


def test_headers_that_are_small_when_compressed_are_bounded() -> None:
    # Each byte is an entry of the static table.
    bomb = frame(HEADERS, END_HEADERS, 1, b"\x90" * 16_000)
    assert error_of(bomb) is ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("length", [MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_messages_have_a_largest_size(length: int) -> None:
    error = error_of_response(data(b"\0" + length.to_bytes(4)))
    assert error is ErrorCode.ENHANCE_YOUR_CALM


def test_the_largest_message_is_received() -> None:
    call, recorder = answered()
    stream = message(bytes(MAX_MESSAGE_BYTES))
    for start in range(0, len(stream), MAX_FRAME_BYTES):
        call.receive(data(stream[start : start + MAX_FRAME_BYTES]))
    assert [len(it) for it in recorder.messages] == [MAX_MESSAGE_BYTES]


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_received_or_end_the_connection(noise: bytes, is_begun: bool) -> None:
    call = answered()[0] if is_begun else new_call()
    with suppress(Http2Error):
        call.receive(noise)


# How calls end.


def end_of(data: bytes) -> CallEnd | None:
    """How a call ends."""
    call, recorder = begun()
    call.receive(data)
    return recorder.end


def test_an_end_without_a_message_has_its_headers_alone() -> None:
    end = end_of(headers(*RESPONSE, ("grpc-status", "12"), end=True))
    assert end == CallEnd(grpc.StatusCode.UNIMPLEMENTED)


def test_a_flood_of_interim_responses_ends() -> None:
    call, _ = begun()
    call.receive(headers((":status", "100")) * MAX_INTERIM_RESPONSES)
    with pytest.raises(Http2Error) as caught:
        call.receive(headers((":status", "100")))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_interim_responses_are_skipped() -> None:
    call, recorder = begun()
    call.receive(headers((":status", "103")) + headers(*RESPONSE) + data(message(b"x")))
    assert recorder.messages == [b"x"]


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_details_of_a_status(padding: int) -> None:
    details = b"x" * (9 + padding)
    for encoded in (base64.b64encode(details), base64.b64encode(details).rstrip(b"=")):
        trailers = (("grpc-status", "7"), ("grpc-status-details-bin", encoded.decode()))
        end = end_of(headers(*RESPONSE) + headers(*trailers, end=True))
        assert end == CallEnd(grpc.StatusCode.PERMISSION_DENIED, details=details)
    assert details.decode() not in repr(end)


@pytest.mark.parametrize("encoded", ["%%%", "a", "YQ==,YQ=="])
def test_details_that_cannot_be_decoded_are_none(encoded: str) -> None:
    trailers = (("grpc-status", "7"), ("grpc-status-details-bin", encoded))
    end = end_of(headers(*RESPONSE) + headers(*trailers, end=True))
    assert end == CallEnd(grpc.StatusCode.PERMISSION_DENIED)


@pytest.mark.parametrize("text", ["99", "-1", "0,0", "", "OK", "00"])
def test_a_status_that_nobody_knows_is_unknown(text: str) -> None:
    end = end_of(headers(*RESPONSE) + headers(("grpc-status", text), end=True))
    assert end is not None
    assert end.code is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("200", grpc.StatusCode.UNKNOWN),
        ("400", grpc.StatusCode.INTERNAL),
        ("401", grpc.StatusCode.UNAUTHENTICATED),
        ("403", grpc.StatusCode.PERMISSION_DENIED),
        ("404", grpc.StatusCode.UNIMPLEMENTED),
        ("429", grpc.StatusCode.UNAVAILABLE),
        ("502", grpc.StatusCode.UNAVAILABLE),
        ("503", grpc.StatusCode.UNAVAILABLE),
        ("504", grpc.StatusCode.UNAVAILABLE),
        ("418", grpc.StatusCode.UNKNOWN),
    ],
)
def test_an_answer_that_is_not_grpc(status: str, code: grpc.StatusCode) -> None:
    given = (":status", status), ("content-type", "text/html")
    received = [headers(*given, end=True), headers(*given)]
    if status != "200":
        received.append(headers(given[0], ("content-type", "application/grpc")))
    for response in received:
        end = end_of(response)
        assert end is not None
        assert end.code is code


@pytest.mark.parametrize(
    ("code", "status", "unprocessed"),
    [
        (0x0, grpc.StatusCode.INTERNAL, False),
        (0x2, grpc.StatusCode.INTERNAL, False),
        (0x7, grpc.StatusCode.UNAVAILABLE, True),
        (0x8, grpc.StatusCode.CANCELLED, False),
        (0xB, grpc.StatusCode.RESOURCE_EXHAUSTED, False),
        (0xC, grpc.StatusCode.PERMISSION_DENIED, False),
        (0xFFFF_FFFF, grpc.StatusCode.INTERNAL, False),
    ],
)
def test_a_reset(code: int, status: grpc.StatusCode, unprocessed: bool) -> None:
    end = end_of(reset(code))
    assert end is not None
    assert (end.code, end.unprocessed) == (status, unprocessed)


def test_a_stream_that_ends_without_a_status_is_no_success() -> None:
    end = end_of(headers(*RESPONSE) + data(b"", flags=END_STREAM))
    assert end is not None
    assert end.code is grpc.StatusCode.UNKNOWN


def test_a_connection_that_goes_away_finishes_the_calls_that_it_has_read() -> None:
    call, recorder = answered()
    call.receive(go_away(2**31 - 1))
    assert call.is_going_away
    assert end_in(recorder) is None
    call.receive(go_away(1, text=b"bye") + data(message(b"x")) + headers(*TRAILERS, end=True))
    assert (recorder.messages, end_in(recorder)) == ([b"x"], OK)


def test_a_connection_that_goes_away_says_which_calls_it_has_not_read() -> None:
    end = end_of(go_away(0))
    assert end is not None
    assert (end.code, end.unprocessed) == (grpc.StatusCode.UNAVAILABLE, True)


def test_a_peer_may_permit_no_calls() -> None:
    call = new_call()
    call.receive(settings((MAX_CONCURRENT_STREAMS, 0)))
    assert call.is_connected
    assert not may_begin(call)
    call.receive(settings((MAX_CONCURRENT_STREAMS, 1)))
    assert may_begin(call)
    call.receive(go_away(0))
    assert not may_begin(call)


def test_pings_are_answered() -> None:
    call, _ = begun()
    call.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"abcdefgh"))
    assert sent(call) == [(PING, ACK, 0, b"12345678")]
