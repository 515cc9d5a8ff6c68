"""A served endpoint with two people who may use it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from authsvc.domain.errors import Reason
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    Endpoint,
    Meeting,
    MemoryResolver,
    demo_app,
    principal,
    running,
)


@pytest.fixture
def resolver() -> MemoryResolver:
    """Alice with two tokens, Bob with one, and one of Alice's that has expired."""
    return MemoryResolver(
        tokens={
            "alice-1": principal("alice"),
            "alice-2": principal("alice"),
            "alice-reader": principal("alice", "things.read"),
            "bob": principal("bob"),
        },
        rejected={"expired": Reason.TOKEN_EXPIRED},
    )


@pytest.fixture
async def endpoint(resolver: MemoryResolver) -> AsyncIterator[Endpoint]:
    """The reference server around the demo server, over real HTTP."""
    meeting = Meeting()
    async with (
        running(demo_app(resolver, meeting)) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)
