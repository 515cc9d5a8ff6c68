"""The form of a token, which is checked before its signature."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.compact import (
    MAX_NESTING,
    MAX_TOKEN_BYTES,
    CompactJws,
    parse_claims,
    parse_json_object,
    parse_jws,
)

HEADER = b'{"alg":"HS256"}'
PAYLOAD = b'{"sub":"alice"}'


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: bytes = HEADER, payload: bytes = PAYLOAD, signature: bytes = b"sig") -> str:
    return ".".join(map(segment, (header, payload, signature)))


def parse(text: str) -> tuple[CompactJws, dict[str, object]]:
    """Parse it as a verifier does, before it has a key."""
    jws = parse_jws(text)
    return jws, parse_claims(jws.payload)


def header(**members: object) -> str:
    return token(header=json.dumps({"alg": "HS256", **members}).encode())


def payload(text: str) -> str:
    return token(payload=text.encode("utf-8", "surrogatepass"))


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return '{"a":' + opening * (depth - 1) + closing * (depth - 1) + "}"


unhurried = settings(deadline=None)  # a busy machine is no failure

H, P, S = segment(HEADER), segment(PAYLOAD), segment(b"sig")

HOSTILE = {
    # segments
    "empty": "",
    "one dot": ".",
    "two dots": "..",
    "three dots": "...",
    "words": "not a token",
    "two segments": f"{H}.{P}",
    "four segments": f"{H}.{P}.{S}.",
    "five segments, a JWE": f"{H}.{P}.{S}.{S}.{S}",
    "JSON serialisation": '{"payload":"e30","signatures":[]}',
    "no header": f".{P}.{S}",
    "no payload": f"{H}..{S}",
    "a scheme before it": f"Bearer {H}.{P}.{S}",
    "a space before it": f" {H}.{P}.{S}",
    "a newline after it": f"{H}.{P}.{S}\n",
    "a space within": f"{H}. {P}.{S}",
    "a newline within": f"{H}.{P[:4]}\n{P[4:]}.{S}",
    "a null": f"{H}.{P}.{S}\0",
    "a letter beyond ASCII": f"{H}.{P}.é",
    "a full-width letter": f"{H}.{P}.{S}ａ",  # noqa: RUF001 - the look-alike is the point
    "a lone surrogate": f"{H}.{P}.\ud800",
    # base64url
    "padding": f"{H}.{P}.{S}=",
    "padding of the signature": f"{H}.{P}.{segment(b'si')}=",
    "padding of the header": f"{segment(HEADER + b' ')}==.{P}.{S}",
    "plus for minus": f"{H}.{P}.{segment(bytes([251] * 3)).replace('-', '+')}",
    "slash for underscore": f"{H}.{P}.{segment(bytes([255] * 3)).replace('_', '/')}",
    "characters that decoders skip": f"{H}.{P}.{S[:2]}!!!!{S[2:]}",
    "a length that no bytes have": f"{H}.{P}.{S}A",
    "stray bits in the signature": f"{H}.{P}.{segment(b's')[:-1]}x",
    "stray bits in two bytes": f"{H}.{P}.{segment(b'si')[:-1]}l",
    # JSON
    "a header that is not JSON": token(header=b"HS256"),
    "a header that is a list": token(header=b'["HS256"]'),
    "a header that is a string": token(header=b'"HS256"'),
    "a payload that is null": payload("null"),
    "a payload that is a number": payload("7"),
    "a payload that is text": payload("hello"),
    "a payload with something after it": payload("{}{}"),
    "a payload cut short": payload('{"sub":"ali'),
    "single quotes": payload("{'sub':'alice'}"),
    "a trailing comma": payload('{"sub":"alice",}'),
    "a comment": payload('{"sub":"alice"/**/}'),
    "a newline in a string": payload('{"sub":"al\nice"}'),
    "a byte order mark": payload("\ufeff{}"),
    "UTF-16": token(payload='{"sub":"alice"}'.encode("utf-16")),
    "Latin-1": token(payload='{"sub":"alicé"}'.encode("latin-1")),
    "an overlong encoding": token(payload=b'{"sub":"\xc0\xaf"}'),
    "an encoded surrogate": payload('{"sub":"\ud800"}'),
    "an escaped surrogate": payload('{"sub":"\\ud800"}'),
    "an escaped surrogate in a name": payload('{"\\udfff":1}'),
    "surrogates in the wrong order": payload('{"sub":"\\udc00\\ud800"}'),
    "sub twice": payload('{"sub":"alice","sub":"mallory"}'),
    "sub twice, once escaped": payload('{"sub":"alice","\\u0073ub":"mallory"}'),
    "a member twice, deep": payload('{"a":[{"b":{"c":1,"c":2}}]}'),
    "alg twice": token(header=b'{"alg":"none","alg":"HS256"}'),
    "NaN": payload('{"exp":NaN}'),
    "Infinity": payload('{"exp":Infinity}'),
    "minus Infinity": payload('{"exp":-Infinity}'),
    "a number beyond floats": payload('{"exp":1e999}'),
    "an integer of 33 digits": payload('{"exp":' + "9" * 33 + "}"),
    "an integer of 5000 digits": payload('{"exp":' + "9" * 5000 + "}"),
    "a leading zero": payload('{"exp":01}'),
    "nested arrays": payload(nested(MAX_NESTING + 1)),
    "nested objects": payload('{"a":' * (MAX_NESTING + 1) + "1" + "}" * (MAX_NESTING + 1)),
    "nested beyond any stack": payload(nested(20_000)),
    "only opening brackets": payload("[" * 40_000),
    "nested after brackets in a string": payload('{"s":"]]]]","a":' + "[" * 40 + "]" * 40 + "}"),
    "a nested header": token(header=nested(MAX_NESTING + 1).encode()),
    # header
    "no alg": token(header=b"{}"),
    "alg null": header(alg=None),
    "alg a number": header(alg=256),
    "alg a list": header(alg=["HS256"]),
    "kid null": header(kid=None),
    "kid a number": header(kid=1),
    "kid an object": header(kid={}),
    "kid of 513 bytes": header(kid="k" * 513),
    "kid of 513 bytes, 171 characters": token(
        header=('{"alg":"HS256","kid":"' + "€" * 171 + '"}').encode()
    ),
    "typ a list": header(typ=["JWT"]),
    "crit": header(crit=["exp"]),
    "crit that is empty": header(crit=[]),
    "crit with b64": header(crit=["b64"], b64=False),
    "b64": header(b64=False),
    "b64 as by default": header(b64=True),
    "zip": header(zip="DEF"),
    "cty of a nested token": header(cty="JWT"),
    "cty in lower case": header(cty="jwt"),
    "cty in full": header(cty="application/jwt"),
    "cty a number": header(cty=1),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_tokens_are_malformed(hostile: str) -> None:
    with pytest.raises(AuthError) as refused:
        parse(hostile)
    assert refused.value.reason is Reason.TOKEN_MALFORMED
    assert "alice" not in str(refused.value)


def test_the_parts_of_a_token() -> None:
    parsed, claims = parse(token(header=b'{"alg":"ES256","kid":"k1","typ":"application/AT+JWT"}'))
    assert parsed.algorithm == "ES256"
    assert parsed.key_id == "k1"
    assert parsed.token_type == "at+jwt"
    assert claims == {"sub": "alice"}
    assert parsed.payload == PAYLOAD
    assert parsed.signature == b"sig"
    assert parsed.signing_input == token().rpartition(".")[0].encode().replace(
        H.encode(), segment(b'{"alg":"ES256","kid":"k1","typ":"application/AT+JWT"}').encode()
    )


@pytest.mark.parametrize(
    "accepted",
    [
        header(kid="k" * 512),
        header(kid=""),
        header(jku="https://evil.example", jwk={}, x5u="https://evil.example", x5c=[]),
        header(cty="json"),
        token(signature=b""),
        payload('{"sub":"\\ud83d\\ude00 \\u00e9"}'),
        payload('{"sub":"é€😀"}'),
        payload(' {"sub" : "alice" } '),
        payload('{"s":"' + "[{" * 500 + '"}'),
        payload('{"a":[' + ",".join(["[]"] * 500) + "]}"),
        payload(nested(MAX_NESTING)),
        payload('{"exp":' + "9" * 32 + "}"),
        payload('{"a":{"x":1},"b":{"x":1}}'),
    ],
)
def test_unusual_but_valid_tokens_are_accepted(accepted: str) -> None:
    parse(accepted)


def test_the_size_limit() -> None:
    parse_jws(token(), max_bytes=len(token()))
    for too_large in (token(), "é" * len(token()), "." * 100_000):
        with pytest.raises(AuthError) as refused:
            parse_jws(too_large, max_bytes=len(token()) - 1)
        assert refused.value.reason is Reason.TOKEN_TOO_LARGE


def test_a_token_shows_none_of_its_claims() -> None:
    assert "alice" not in repr(parse_jws(token()))


OPEN = b'{"a":' + b"[" * (MAX_NESTING + 1)  # enough of them to be counted one by one
LARGEST = MAX_TOKEN_BYTES * 3 // 4 - 200  # bytes of payload that fit into a token
LABORIOUS = {
    "escaped quotes without an end": OPEN + b'"' + b'\\"' * (LARGEST // 2),
    "escaped quotes and a last backslash": OPEN + b'"' + b'\\"' * (LARGEST // 2) + b"\\",
    "escaped newlines": OPEN + b'"\\\n' * (LARGEST // 3),
    "quotes": OPEN + b'"' * LARGEST,
    "backslashes": OPEN + b"\\" * LARGEST,
    "empty strings": OPEN + b'"",' * (LARGEST // 3),
    "brackets": b'{"a":[' + b"[]," * (LARGEST // 3) + b"1]}",
    "members": b"{" + b",".join(b'"%d":0' % n for n in range(LARGEST // 9)) + b"}",
    "escapes": b'{"a":"' + b"\\u0041" * (LARGEST // 6) + b'"}',
    "digits": b'{"a":0.' + b"9" * LARGEST + b"}",
    "an exponent": b'{"a":1e' + b"9" * LARGEST + b"}",
}


@pytest.mark.parametrize("data", LABORIOUS.values(), ids=LABORIOUS.keys())
def test_no_token_takes_long(data: bytes) -> None:
    """Any client can send one. Each takes milliseconds; quadratic time would be seconds."""
    laborious = token(payload=data)
    assert MAX_TOKEN_BYTES * 0.9 < len(laborious) <= MAX_TOKEN_BYTES

    def seconds() -> float:
        start = time.process_time()
        refuses_cleanly(lambda: parse(laborious))
        return time.process_time() - start

    # A garbage collection of what other tests left may happen during one of them.
    assert any(seconds() < 0.5 for _ in range(5))


@unhurried
@given(st.text(max_size=200))
@example("\ud800..")
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    refuses_cleanly(lambda: parse(text))


@unhurried
@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=40))
def test_any_segments_are_parsed_or_rejected(one: bytes, two: bytes, three: bytes) -> None:
    refuses_cleanly(lambda: parse(token(one, two, three)))


def refuses_cleanly(call: Callable[[], object]) -> None:
    try:
        call()
    except AuthError as error:
        assert error.reason is Reason.TOKEN_MALFORMED  # noqa: PT017 - passing is fine as well


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@unhurried
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5), st.booleans())
def test_all_valid_json_is_read_unchanged(value: dict[str, object], ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")
    assert parse_json_object(data) == value


@unhurried
@given(st.binary(max_size=60), st.integers(0, 200), st.sampled_from("ABCxyz019-_=+/ \n"))
def test_one_token_has_one_spelling(signature: bytes, position: int, other: str) -> None:
    original = token(signature=signature)
    position %= len(original) + 1
    spelling = original[:position] + other + original[position + 1 :]
    if spelling == original:
        return
    try:
        parsed = parse_jws(spelling)
    except AuthError:
        return
    first = parse_jws(original)
    assert (parsed.signing_input, parsed.signature) != (first.signing_input, first.signature)
