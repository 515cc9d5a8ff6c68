"""An office for each test."""

from __future__ import annotations

import pytest

from tests.authsvc.admin.office import Office, office_of
from tests.support.clock import Clock


@pytest.fixture
def office(clock: Clock) -> Office:
    """Over a store in memory."""
    return office_of(clock)
