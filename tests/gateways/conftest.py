"""What the tests of one gateway share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.gateways.harness import Gateway
from tests.mcp_adapter.harness import Endpoint


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Endpoint]:
    """A client of the module's gateway, whose upstream has seen nothing yet."""
    gateway.seen.clear()
    async with gateway.client() as speaking:
        yield speaking
