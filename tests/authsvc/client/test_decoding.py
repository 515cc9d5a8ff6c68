"""Decoded responses: the same bytes once, other bytes never, none for longer than published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError

from authsvc.client import decoding
from authsvc.client.decoding import MAX_BYTES, MAX_RESPONSES, Decoder
from authsvc.domain.resolution import (
    Outcome,
    Principal,
    Resolution,
    Session,
    SessionState,
)
from authsvc.wire import auth as wire

pytestmark = pytest.mark.anyio

LONG_SECONDS = 30.0

SESSION = Session("session", SessionState.AUTHENTICATED, 3, 1_000.0, 2_000.0)
ADA = Resolution(SESSION, Outcome.REUSED, Principal("https://idp", "ada", 1_500.0))


def encoded(resolution: Resolution) -> bytes:
    return wire.response_message(resolution).SerializeToString()


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    decoder = Decoder()
    decoder.open()
    yield decoder
    decoder.close()


async def test_the_same_bytes_are_decoded_once(decoder: Decoder) -> None:
    first = decoder.resolution_of(encoded(ADA))

    assert first == ADA
    assert decoder.resolution_of(encoded(ADA)) is first


async def test_any_other_bytes_are_decoded_anew(decoder: Decoder) -> None:
    decoder.resolution_of(encoded(ADA))
    principal = ADA.principal
    assert principal is not None

    for other in (
        replace(ADA, session=replace(SESSION, revision=4)),
        replace(ADA, session=replace(SESSION, state=SessionState.UNAUTHENTICATED)),
        replace(ADA, principal=None),
        replace(ADA, principal=replace(principal, subject="bob")),
        replace(ADA, principal=replace(principal, roles=("writer",))),
        replace(ADA, consistency_token="written"),
        Resolution(),
    ):
        assert decoder.resolution_of(encoded(other)) == other
    assert decoder.resolution_of(encoded(ADA)) == ADA


async def test_nothing_is_kept_for_longer(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "KEPT_SECONDS", 0.0)
    decoder.close()
    decoder.open()
    first = decoder.resolution_of(encoded(ADA))

    async with asyncio.timeout(LONG_SECONDS):
        while decoder.resolution_of(encoded(ADA)) is first:  # noqa: ASYNC110 - a timer has no event
            await asyncio.sleep(0)


async def test_nothing_is_kept_once_it_is_closed(decoder: Decoder) -> None:
    first = decoder.resolution_of(encoded(ADA))

    decoder.close()

    second = decoder.resolution_of(encoded(ADA))
    assert second == first
    assert second is not first
    decoder.open()


async def test_what_is_kept_is_bounded_in_number(decoder: Decoder) -> None:
    first = decoder.resolution_of(encoded(ADA))

    for revision in range(4, MAX_RESPONSES + 4):
        decoder.resolution_of(encoded(replace(ADA, session=replace(SESSION, revision=revision))))

    assert decoder.resolution_of(encoded(ADA)) is not first


async def test_a_response_beyond_the_bound_in_bytes_is_not_kept(
    decoder: Decoder,
) -> None:
    principal = Principal("https://idp", "ada", 1_500.0, claims_json=b'"' + b"x" * MAX_BYTES + b'"')
    large = encoded(Resolution(principal=principal))

    assert decoder.resolution_of(large) is not decoder.resolution_of(large)


async def test_what_is_no_response_is_no_resolution(decoder: Decoder) -> None:
    with pytest.raises(DecodeError):
        decoder.resolution_of(b"\xff\xff")
