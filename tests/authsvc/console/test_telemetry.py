"""What the console counts, and serves to Prometheus."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from authsvc.console.server import running
from authsvc.console.telemetry import ConsoleMetrics
from authsvc.net.validity import Validity
from authsvc.telemetry.families import registry_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.console import console_settings, sign_in
from tests.support.operators import Site

pytestmark = pytest.mark.anyio


async def test_requests_are_counted_by_page_and_exposed(
    site: Site, operators_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = console_settings(site, operators_file, metrics={"listen": "127.0.0.1:0"})
    metrics = ConsoleMetrics(lambda: {"authsvc.ca_file": Validity(1.0, 2.0)})
    async with (
        running(settings, metrics, clock=clock) as url,
        httpx2.AsyncClient(
            base_url=url, headers={"Origin": url}, timeout=TIMEOUT_SECONDS
        ) as visitor,
    ):
        await visitor.get("/session?id=hidden")
        await visitor.get("/static/console.css")
        await visitor.get("/sessions/hidden")
        await visitor.get("/", headers={"Host": "elsewhere.example"})
        await sign_in(visitor, passphrase="a wrong one")
        (address,) = (it.__dict__["address"] for it in caplog.records if "metrics" in it.message)
        exposed = (await visitor.get(f"http://{address}/metrics")).text

    lines = exposed.splitlines()
    assert [it for it in lines if it.startswith("authsvc_console_requests_total")] == [
        f'authsvc_console_requests_total{{page="{page}",status="{status}"}} 1.0'
        for page, status in (
            ("/session", 303),
            ("/static", 200),
            ("other", 404),
            ("/", 421),
            ("/sign-in", 200),
            ("/sign-in", 403),
        )
    ]
    certificate = "authsvc_console_certificate_{}_timestamp_seconds"
    for kind, value in (("expire", 2.0), ("issue", 1.0)):
        assert f'{certificate.format(kind)}{{setting="authsvc.ca_file"}} {value}' in lines
    assert "authsvc_console_build_info{version=" in exposed
    assert "process_resident_memory_bytes" in exposed
    assert "hidden" not in exposed


async def test_a_page_that_fails_is_counted_as_an_error(
    site: Site, operators_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = ConsoleMetrics()

    async def fails(self: object, request: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("authsvc.console.sign_in.SignIn.form", fails)
    async with (
        running(console_settings(site, operators_file), metrics, clock=clock) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as visitor,
    ):
        assert (await visitor.get("/sign-in")).status_code == 500
    counted = registry_of(metrics).get_sample_value(
        "authsvc_console_requests_total", {"page": "/sign-in", "status": "500"}
    )
    assert counted == 1
