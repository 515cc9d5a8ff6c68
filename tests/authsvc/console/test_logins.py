"""Logins: how they begin, and how they end."""

from __future__ import annotations

import pytest

from authsvc.console.logins import MAX_LOGINS, Logins
from authsvc.console.passphrases import NOBODY, Operator
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


def test_an_unused_login_ends(logins: Logins, clock: Clock) -> None:
    secret = logins.open(ADA)
    clock.advance(59)
    assert logins.get(secret) is not None
    clock.advance(59)
    assert logins.get(secret, touch=False) is None  # past 100 seconds in all


def test_a_page_that_refreshes_itself_is_no_use(logins: Logins, clock: Clock) -> None:
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
    assert logins.get(secret) is None  # permanently


def test_logins_are_bounded(logins: Logins) -> None:
    secrets = [logins.open(ADA) for _ in range(MAX_LOGINS + 1)]
    assert logins.get(secrets[0]) is None
    assert all(logins.get(secret) for secret in secrets[1:])
