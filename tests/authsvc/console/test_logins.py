"""Who is signed in, and how often signing in may be tried."""

from __future__ import annotations

import pytest

from authsvc.console.logins import (
    ALL_TRIES,
    ALL_TRY_SECONDS,
    MAX_ADDRESSES,
    MAX_LOGINS,
    TRIES,
    TRY_SECONDS,
    Logins,
    Tries,
)
from authsvc.console.operators import NOBODY, Operator
from tests.support.clock import Clock

ADA = Operator("ada", b"salt", b"key")


@pytest.fixture
def known() -> dict[str, Operator]:
    return {"ada": ADA}


@pytest.fixture
def logins(known: dict[str, Operator], clock: Clock) -> Logins:
    return Logins(known.get, idle_seconds=60, seconds=100, clock=clock)


def test_a_secret_opens_one_login(logins: Logins) -> None:
    secret, other = logins.open(ADA), logins.open(ADA)
    one, two = logins.get(secret), logins.get(other)
    assert one is not None
    assert two is not None
    assert one.csrf_token != two.csrf_token
    assert len({secret, other, one.csrf_token}) == 3
    assert not any(text in repr(one) for text in (secret, one.csrf_token))
    assert logins.get("") is None
    logins.close(secret)
    assert logins.get(secret) is None
    assert logins.get(other) is two


def test_it_ends_when_nobody_uses_it(logins: Logins, clock: Clock) -> None:
    secret = logins.open(ADA)
    clock.advance(59)
    assert logins.get(secret) is not None
    clock.advance(59)
    assert logins.get(secret, touch=False) is None  # past 100 seconds in all


def test_being_looked_at_is_no_use(logins: Logins, clock: Clock) -> None:
    secret = logins.open(ADA)
    clock.advance(59)
    assert logins.get(secret, touch=False) is not None
    clock.advance(1)
    assert logins.get(secret) is None


@pytest.mark.parametrize("now", [None, Operator("ada", b"salt", b"another key"), NOBODY])
def test_it_ends_with_the_operators_line(
    logins: Logins, known: dict[str, Operator], now: Operator | None
) -> None:
    secret = logins.open(ADA)
    known.pop("ada")
    if now is not None:
        known["ada"] = now
    assert logins.get(secret) is None
    known["ada"] = ADA
    assert logins.get(secret) is None  # for good


def test_they_are_bounded(logins: Logins) -> None:
    secrets = [logins.open(ADA) for _ in range(MAX_LOGINS + 1)]
    assert logins.get(secrets[0]) is None
    assert all(logins.get(secret) for secret in secrets[1:])


def test_one_address_does_not_use_up_the_others_tries(clock: Clock) -> None:
    tries = Tries(clock)
    assert [tries.take("a") for _ in range(TRIES)] == [0.0] * TRIES
    for _ in range(10 * ALL_TRIES):
        assert tries.take("a") == TRY_SECONDS
    assert tries.take("b") == 0.0
    clock.advance(TRY_SECONDS)
    assert tries.take("a") == 0.0
    assert tries.take("a") == TRY_SECONDS


def test_many_addresses_are_rationed_together_and_forgotten(clock: Clock) -> None:
    tries = Tries(clock)
    waits = [tries.take(str(number)) for number in range(2 * MAX_ADDRESSES)]
    assert waits == [0.0] * ALL_TRIES + [ALL_TRY_SECONDS] * (len(waits) - ALL_TRIES)
    assert len(tries._of) == MAX_ADDRESSES


def test_a_clock_that_goes_back_gives_nothing_away(clock: Clock) -> None:
    tries = Tries(clock)
    for _ in range(TRIES):
        tries.take("a")
    clock.advance(-1_000)
    assert tries.take("a") == TRY_SECONDS
