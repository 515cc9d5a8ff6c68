"""Requests are counted, whatever they are."""

from __future__ import annotations

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from authsvc.telemetry.families import registry_of
from mcp_adapter import SessionGate
from mcp_adapter.server.telemetry import AdapterMetrics
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    LEGACY,
    MODERN,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    request,
    running,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("version", "era", "status"),
    [(LEGACY, "sessions", 400), (MODERN, "stateless", 200), ("2099-01-01", "unknown", 400)],
)
async def test_a_request_of_any_revision_is_counted_and_breaks_nothing(
    resolver: MemoryResolver,
    version: str,
    era: str,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = AdapterMetrics()
    gate = SessionGate(JSONResponse({}), resolver=resolver, resource=RESOURCE)
    async with (
        running(Starlette(routes=[Route("/mcp", metrics.app(gate))])) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, resolver, Meeting())
        answer = await endpoint.post(request("ping"), version=version)

    assert answer.status_code == status
    labels = {"method": "none", "status": str(status), "era": era}
    assert registry_of(metrics).get_sample_value("mcp_adapter_requests_total", labels) == 1
    assert [record for record in caplog.records if record.exc_info] == []
