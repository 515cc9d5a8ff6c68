"""Requests are counted, whatever they are."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from authsvc.net.development_certificates import write_development_certificates
from authsvc.telemetry.families import registry_of
from mcp_adapter import SessionGate
from mcp_adapter.server.config import AuthsvcSettings
from mcp_adapter.server.running import _certificates
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
from tests.support.bounds import TIMEOUT_SECONDS

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


async def test_certificates_in_use_have_their_ends_in_metrics_and_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/adapter")
    ca_file, certificate_file = tmp_path / "ca.pem", tmp_path / "client.pem"
    settings = AuthsvcSettings(
        ca_file=ca_file, certificate_file=certificate_file, key_file=tmp_path / "client.key"
    )
    metrics = AdapterMetrics()
    caplog.set_level(logging.INFO)
    with _certificates(metrics, settings):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while "expires on" not in caplog.text:  # noqa: ASYNC110 - a line of the log
                await asyncio.sleep(0)
        for name, path in (("ca_file", ca_file), ("certificate_file", certificate_file)):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            labels = {"setting": f"authsvc.{name}"}
            for end, when in (
                ("expire", certificate.not_valid_after_utc),
                ("issue", certificate.not_valid_before_utc),
            ):
                metric = f"mcp_adapter_certificate_{end}_timestamp_seconds"
                value = registry_of(metrics).get_sample_value(metric, labels)
                assert value == when.timestamp()
            told = f"authsvc.{name}: {path} expires on {certificate.not_valid_after_utc:%Y-%m-%d}"
            assert told in caplog.text
