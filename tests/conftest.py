"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

from tests.support.clock import Clock
from tests.support.tokens import IdentityProvider


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that async tests run on."""
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> IdentityProvider:
    """An identity provider on that clock."""
    return IdentityProvider(clock)
