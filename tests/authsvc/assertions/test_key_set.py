"""Which key signs, and when keys come and go."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK

from authsvc.assertions.key_set import (
    DAY_SECONDS,
    RETAINED_SECONDS,
    KeySet,
    KeySetFormatError,
    ahead_seconds,
)
from authsvc.assertions.keys import SigningKey
from tests.support.clock import START

MONTH = 30 * DAY_SECONDS


def keys_at(*times: float) -> KeySet:
    return KeySet(tuple(SigningKey.generated(time) for time in times))


def test_the_first_key_signs_at_once() -> None:
    keys = KeySet.generated(START)
    assert keys.signing(START) is keys.keys[0]
    assert keys.rotated(START, MONTH) == keys


def test_a_replica_whose_clock_is_behind_signs_with_the_first_key() -> None:
    keys = keys_at(START, START + 10)
    assert keys.signing(START - 1_000) is keys.keys[0]


def test_the_latest_key_signs_whose_time_has_come() -> None:
    keys = keys_at(START, START + 10, START + 20)
    signing = [keys.keys.index(keys.signing(START + at)) for at in (0, 9.9, 10, 19.9, 20, 1e9)]
    assert signing == [0, 0, 1, 1, 2, 2]


def test_the_next_key_is_made_a_day_before_it_signs() -> None:
    keys = KeySet.generated(START)
    assert keys.rotated(START + MONTH - DAY_SECONDS - 0.1, MONTH) == keys
    rotated = keys.rotated(START + MONTH - DAY_SECONDS, MONTH)
    assert [key.sign_time for key in rotated.keys] == [START, START + MONTH]
    assert rotated.keys[0] == keys.keys[0]
    assert rotated.rotated(START + MONTH - 1, MONTH) == rotated


def test_a_next_key_that_is_late_is_published_for_a_day_all_the_same() -> None:
    now = START + 5 * MONTH
    rotated = KeySet.generated(START).rotated(now, MONTH)
    assert rotated.keys[-1].sign_time == now + DAY_SECONDS
    assert rotated.signing(now) is rotated.keys[0]


def test_with_short_rotations_it_is_published_for_half_of_one() -> None:
    assert ahead_seconds(DAY_SECONDS) == DAY_SECONDS / 2
    assert ahead_seconds(2 * DAY_SECONDS) == ahead_seconds(MONTH) == DAY_SECONDS


def test_the_last_key_is_published_until_its_assertions_have_ended() -> None:
    keys = keys_at(START, START + MONTH)
    at = START + MONTH + RETAINED_SECONDS
    assert keys.rotated(at - 0.1, MONTH) == keys
    assert keys.rotated(at, MONTH).keys == keys.keys[1:]


def test_the_key_that_signs_is_never_removed() -> None:
    keys = KeySet.generated(START)
    for years in range(1, 20):
        keys = keys.rotated(START + years * 365 * DAY_SECONDS, MONTH)
        assert keys.keys


def test_a_clock_that_went_back_changes_nothing() -> None:
    keys = keys_at(START, START + MONTH)
    assert keys.rotated(START - 10 * MONTH, MONTH) == keys
    assert keys.signing(START - 10 * MONTH) is keys.keys[0]


@given(st.lists(st.floats(0, 100 * DAY_SECONDS), max_size=30), st.integers(1, 365))
def test_at_any_times_there_are_few_keys_and_the_next_is_never_early(
    steps: list[float], days: int
) -> None:
    rotation, now = days * DAY_SECONDS, START
    keys = KeySet.generated(now)
    for step in steps:
        now += step
        known = set(keys.key_ids)
        keys = keys.rotated(now, rotation)
        assert 1 <= len(keys.keys) <= 3
        assert keys.rotated(now, rotation) == keys
        assert [key.sign_time for key in keys.keys] == sorted(key.sign_time for key in keys.keys)
        for key in keys.keys:
            if key.kid not in known:
                assert key.sign_time >= now + ahead_seconds(rotation)


# As stored, and as published.


def test_it_is_stored_with_its_private_keys() -> None:
    keys = keys_at(START, START + 0.125)
    decoded = KeySet.decoded(keys.encoded())
    assert decoded == keys
    for one, other in zip(keys.keys, decoded.keys, strict=True):
        assert one.private.private_numbers() == other.private.private_numbers()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "keys": []}',
        b'{"format": 1, "keys": [{}]}',
        b'{"format": 1, "keys": [{"sign_time": 1, "d": ""}]}',
        b'{"format": 1, "keys": [{"sign_time": 1, "d": 7}]}',
        b'{"format": 1, "keys": [{"sign_time": "x", "d": "AQ"}]}',
        b'{"format": 1, "keys": 1}',
    ],
)
def test_what_is_no_key_set_is_rejected(content: bytes) -> None:
    with pytest.raises(KeySetFormatError):
        KeySet.decoded(content)


def test_a_later_format_is_named() -> None:
    document = json.loads(KeySet.generated(START).encoded())
    with pytest.raises(KeySetFormatError, match="later version"):
        KeySet.decoded(json.dumps({**document, "format": 2}).encode())


def test_no_private_part_is_published() -> None:
    for _ in range(50):
        keys = keys_at(START, START + 1)
        published = json.loads(keys.jwks())
        assert set(published) == {"keys"}
        for jwk, key in zip(published["keys"], keys.keys, strict=True):
            assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
            numbers = PyJWK(jwk, "ES256").key.public_numbers()
            assert numbers == key.private.public_key().public_numbers()
            scalar = key.private.private_numbers().private_value
            assert json.loads(keys.encoded())["keys"][0]["d"] not in keys.jwks().decode()
            assert str(scalar) not in keys.jwks().decode()


def test_no_repr_shows_a_private_key() -> None:
    key = SigningKey.generated(START)
    secret = json.loads(KeySet((key,)).encoded())["keys"][0]["d"]
    for shown in (repr(key), repr(KeySet((key,)))):
        assert secret not in shown
        assert "private" not in shown.lower()


def test_kid_is_the_thumbprint_of_rfc_7638() -> None:
    jwk = SigningKey.generated(START).jwk
    assert len(jwk["kid"]) == 43
    assert SigningKey.generated(START).kid != jwk["kid"]
