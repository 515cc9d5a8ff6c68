"""An endpoint whose calls are audited."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from mcp_adapter.server.app import build_app
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    SCOPES,
    Endpoint,
    Meeting,
    MemoryResolver,
    demo_requirement,
    demo_server,
    running,
    settings,
)
from tests.support.audited import Collected


@pytest.fixture
def audit() -> Collected:
    """Gets the events."""
    return Collected()


@pytest.fixture
async def audited_endpoint(resolver: MemoryResolver, audit: Collected) -> AsyncIterator[Endpoint]:
    """As ``endpoint``, audited."""
    meeting = Meeting()
    app = build_app(
        settings(),
        demo_server(meeting),
        resolver=resolver,
        ready=resolver.ready,
        requirement=demo_requirement,
        scopes=SCOPES,
        audit=audit,
        audited_arguments={"whoami": ("bucket", "count", "deep", "absent")},
    )
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        yield Endpoint(http, resolver, meeting)
