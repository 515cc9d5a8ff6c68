"""Bodies: bounded, and parsed in one way only."""

from __future__ import annotations

import gc
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.http_auth import strict_json
from authsvc.http_auth.messages import MAX_BATCH, calls, parse, request_id_of
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.strict_json import FEW_VALUES, MAX_DEPTH, MAX_VALUES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b'{"id": NaN}',
        b'{"id": Infinity}',
        b'{"method": "ping", "method": "tools/call"}',
        b'{"params": {"name": "public", "name": "whoami"}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        '{"method": "ping"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"method": "ping"}',
        b'{"method": "\xff"}',
    ],
)
async def test_what_is_not_json_in_one_reading(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)

    assert (caught.value.status, caught.value.code) == (400, -32700)


@pytest.mark.parametrize(
    "body",
    [
        b"1",
        b"null",
        b'"ping"',
        b"[]",
        b"[" + b"{}," * MAX_BATCH + b"{}]",
        b'[[{"method": "tools/call"}]]',
        b'[{"method": "ping"}, [{"method": "tools/call"}]]',
        b'{"method": 1}',
        b'[{"method": null}]',
        b'{"id": true, "method": "ping"}',
        b'{"id": null, "method": "ping"}',
        b'{"id": null}',
        b'{"id": null, "result": {}}',
        b'{"id": 1.5, "method": "ping"}',
        b'{"id": 1.0, "method": "ping"}',
        b'{"id": {}, "method": "ping"}',
        b'{"id": [1], "method": "ping"}',
        b'{"id": 1e999, "method": "ping"}',
        b'{"id": -1e999, "method": "ping"}',
        b'{"id": 9223372036854775808, "method": "ping"}',
        b'{"id": "\\ud800", "method": "ping"}',
        b'{"id": "\\udc00\\ud800", "method": "ping"}',
        b'{"id": 1, "method": "\\uDFFF"}',
        b'{"id": 1, "method": "ping", "params": {"a": ["\\ud83d"]}}',
        b'{"id": 1, "method": "ping", "params": {"\\ud83d": 1}}',
        b'{"id": 1, "method": "ping", "params": {"a": ["\\ud83d", "\\ude00"]}}',
        b'{"id": 1, "method": "ping", "params": {"\\ud83d": "\\ude00"}}',
        b'{"id": 1, "method": "ping", "params": {"a": "\\ud83d\\\\\\ude00"}}',
        b'{"id": 1, "method": "ping", "params": {"a": "\\ud83d\\ude00\\ude00"}}',
        b'{"id": 1, "method": "ping", "params": {"a": 1e999}}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b'[{"id": 1, "method": "ping"}, {"id": "\\ud800", "method": "ping"}]',
    ],
)
async def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)

    assert (caught.value.status, caught.value.code) == (400, -32600)


async def test_calls_are_requests_and_notifications() -> None:
    message = parse(
        b'[{"method": "a", "params": {"x": 1}}, {"method": "b", "id": 1, "params": [1]},'
        b' {"id": 1, "result": {}}, 3, null, "ping"]'
    )

    assert list(calls(message)) == [("a", {"x": 1}), ("b", {})]


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        (b'{"id": 7}', 7),
        (b'{"id": "x"}', "x"),
        (b'{"id": "\\ud83d\\ude00"}', "\U0001f600"),
        (b'{"id": "\\\\ud83d"}', "\\ud83d"),
        (b'{"id": -9223372036854775807}', -9223372036854775807),
        (b'{"id": null, "error": {"code": 1, "message": ""}}', None),
        (b"{}", None),
        (b'[{"id": 7}]', None),
    ],
)
async def test_request_ids(body: bytes, request_id: int | str | None) -> None:
    assert request_id_of(parse(body)) == request_id


LARGEST = int(sys.float_info.max)
ROUNDED_UP = 2**1024 - 2**970
"""The smallest integer that is rounded to infinity: it lies half way to the next power of two."""


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "digits", [str(ROUNDED_UP), str(10**309), "9" * 309, "9" * 4300, "9" * 60_000], ids=len
)
@pytest.mark.parametrize("filler", [0, FEW_VALUES], ids=["few", "many"])
async def test_an_integer_beyond_floats_is_refused_before_it_is_converted(
    sign: str, digits: str, filler: int
) -> None:
    """Digits of any number: converting them takes quadratic time."""
    body = f'{{"id": 1, "params": {{"a": [{"0, " * filler}{sign}{digits}]}}}}'.encode()
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(Refusal, match="out of range") as caught:
            parse(body)
    finally:
        sys.set_int_max_str_digits(limit)

    assert (caught.value.status, caught.value.code) == (400, -32600)


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("digits", [str(LARGEST), str(ROUNDED_UP - 1), "9" * 308], ids=len)
async def test_an_integer_within_floats_is_exact(sign: str, digits: str) -> None:
    message = parse(f'{{"params": {{"a": [{sign}{digits}, 7]}}}}'.encode())

    assert message == {"params": {"a": [int(sign + digits), 7]}}


@pytest.mark.parametrize(
    "body",
    [
        b'{"params": {"a": "' + b"9" * 5000 + b'", "b": 7}}',
        b'{"params": {"' + b"9" * 5000 + b'": 7}}',
        b'{"params": {"a": 0.' + b"9" * 5000 + b', "b": 7}}',
        b'{"params": {"a": ' + b"9" * 400 + b'e-400, "b": 7}}',
        b'{"params": {"a": 1.5e-' + b"0" * 400 + b'7, "b": 7}}',
    ],
    ids=["string", "name", "fraction", "exponent", "zeros"],
)
async def test_long_digits_that_are_no_integer_are_read(body: bytes) -> None:
    assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"params": [' + b",".join([b"9" * 308] * 10) + b"]}",
        b'{"params": ["' + b"9" * 309 + b'", 7]}',
        b'{"params": ["\\"' + b"9" * 309 + b'", 7]}',
        b'{"params": ["\\\\", "' + b"9" * 309 + b'", 7]}',
        b'{"params": {"' + b"9" * 309 + b'": 7}}',
    ],
    ids=["short", "string", "escaped quote", "escaped backslash", "name"],
)
async def test_only_a_long_run_of_digits_outside_strings_takes_the_slower_decoder(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls Python for each integer, and anybody may send one long string."""
    monkeypatch.setattr(strict_json, "_LONG_NUMBERS_DECODER", None)

    assert parse(body) == json.loads(body)


async def test_so_many_strings_that_they_are_no_values_are_not_taken_apart() -> None:
    with pytest.raises(Refusal) as caught:
        parse(b'""' * (2 * MAX_VALUES + 1) + b"9" * 309)

    assert caught.value.status == 413


STRING_OF_VALUES = b'{"params": "' + b'[{,\\\\,\\",' * MAX_VALUES + b'"}'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" + b"[]," * MAX_VALUES + b"[]]", 413),
        (b'{"a":[' + b'"",' * MAX_VALUES + b'""]}', 413),
        (b'{"a":["\\\\",' + b"0," * MAX_VALUES + b'"\\\\"]}', 413),
        (b'{"a":"' + b'x","y":"' * MAX_VALUES + b'"}', 413),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", 400),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), 400),
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_a_body_is_bounded_before_it_is_parsed(
    body: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "_DECODER", None)

    with pytest.raises(Refusal) as caught:
        parse(body)

    assert caught.value.status == status
    assert str(MAX_VALUES if status == 413 else MAX_DEPTH) in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        STRING_OF_VALUES,
        b'{"a":' * (MAX_DEPTH - 1) + b"{}" + b"}" * (MAX_DEPTH - 1),
        b'{"a":[' + b"[]," * (MAX_VALUES // 2 - 2) + b"[]]}",
        b'{"a":[' + b'"\\\\\\"",' * (MAX_VALUES - 10) + b"1]}",
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_a_body_within_the_bounds_is_parsed(body: bytes) -> None:
    assert parse(body) == json.loads(body)
    assert gc.isenabled()


def test_an_app_that_has_no_garbage_collected_is_left_so() -> None:
    body = b"[" + b"0," * FEW_VALUES + b"0]"
    gc.disable()
    try:
        assert strict_json.decode(body) == json.loads(body)
        assert not gc.isenabled()
    finally:
        gc.enable()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('\\"[]{},:a\n\u2713\U0001f600')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('\\"[]{},:a'), inner),
)


@given(value=json_values, ensure_ascii=st.booleans(), max_depth=st.integers(1, 4))
async def test_bounds_are_those_of_what_is_parsed(
    value: object, ensure_ascii: bool, max_depth: int
) -> None:
    """The bounds are found without a parser, and it agrees with them."""

    def depth(it: object) -> int:
        inner = it.values() if isinstance(it, dict) else it if isinstance(it, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    def size(it: object) -> int:
        inner = it.values() if isinstance(it, dict) else it if isinstance(it, list) else None
        return 0 if inner is None else max(1, len(inner)) + sum(map(size, inner))

    message = {"params": value}
    body = json.dumps(message, ensure_ascii=ensure_ascii).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "MAX_DEPTH", max_depth)
        if depth(message) <= max_depth:
            assert parse(body) == message
        else:
            with pytest.raises(Refusal, match="nested"):
                parse(body)
        patch.setattr(strict_json, "MAX_DEPTH", 100)
        patch.setattr(strict_json, "FEW_VALUES", 0)
        patch.setattr(strict_json, "MAX_VALUES", size(message))
        assert parse(body) == message
        patch.setattr(strict_json, "MAX_VALUES", size(message) - 1)
        with pytest.raises(Refusal, match="more than"):
            parse(body)
