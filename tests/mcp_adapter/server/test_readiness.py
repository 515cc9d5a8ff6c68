"""Whether the adapter is ready: its log lines, its metrics, and what keeps these current."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.telemetry.families import registry_of
from mcp_adapter.server import readiness
from mcp_adapter.server.config import AuthsvcSettings
from mcp_adapter.server.readiness import Readiness
from mcp_adapter.server.telemetry import AdapterMetrics
from tests.mcp_adapter.harness import RESOURCE, MemoryResolver, settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio


class Checked:
    """An adapter's readiness, and what it is asked of."""

    def __init__(self, authsvc: AuthsvcSettings | None = None) -> None:
        self.clock = Clock()
        self.resolver = MemoryResolver()
        self.metrics = AdapterMetrics()
        of = settings() if authsvc is None else settings().model_copy(update={"authsvc": authsvc})
        self.readiness = Readiness(self.resolver, of, self.metrics, self.clock)

    async def fails(self, reason: Reason) -> None:
        self.resolver.error = AuthError(reason)
        with pytest.raises(AuthError):
            await self.readiness.check()

    def sample(self, name: str, **labels: str) -> float | None:
        return registry_of(self.metrics).get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (Reason.CALLER_NOT_ALLOWED, "[[callers]]"),
        (Reason.RESOURCE_INVALID, "canonically"),
        (Reason.SERVICE_UNAVAILABLE, ""),
    ],
)
async def test_the_log_says_who_asked_whom_for_what_and_what_mends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reason: Reason, remedy: str
) -> None:
    token = tmp_path / "service-token"
    token.write_text("the-service-token")
    authsvc = AuthsvcSettings(
        target="authsvc.internal:50051", ca_file=tmp_path / "ca.pem", service_token_file=token
    )

    await Checked(authsvc).fails(reason)

    (record,) = caplog.records
    fields = record.__dict__
    assert record.getMessage().startswith(f"not ready: {reason.name}")
    assert remedy in record.getMessage()
    assert fields["reason"] == reason.name
    assert fields["target"] == "authsvc.internal:50051"
    assert fields["resource"] == RESOURCE
    assert fields["service_token_file"] == str(token)
    assert "the-service-token" not in str(fields)


async def test_changes_are_logged_at_once_and_what_lasts_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    checked = Checked()
    for _ in range(3):
        await checked.fails(Reason.SERVICE_UNAVAILABLE)
    await checked.fails(Reason.CALLER_NOT_ALLOWED)
    await checked.fails(Reason.SERVICE_UNAVAILABLE)
    checked.clock.advance(readiness.REPEAT_SECONDS)
    await checked.fails(Reason.CALLER_NOT_ALLOWED)
    checked.resolver.error = None
    for _ in range(2):
        await checked.readiness.check()
    await checked.fails(Reason.CALLER_NOT_ALLOWED)

    lines = [record.getMessage().partition(".")[0] for record in caplog.records]
    assert lines == [
        "not ready: SERVICE_UNAVAILABLE",
        *["not ready: CALLER_NOT_ALLOWED"] * 2,
        "ready again",
        "not ready: CALLER_NOT_ALLOWED",
    ]


async def test_a_defect_is_not_ready_and_its_frames_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kubernetes asks ``/readyz`` every few seconds, too."""
    checked = Checked()
    checked.resolver.error = RuntimeError("what a client sent")
    for _ in range(3):
        for _ in range(2):
            with pytest.raises(AuthError, match="SERVICE_UNAVAILABLE: the check failed"):
                await checked.readiness.check()
        checked.clock.advance(readiness.REPEAT_SECONDS)

    lines = [record.getMessage() for record in caplog.records]
    failed = "readiness could not be checked: RuntimeError"
    not_ready = "not ready: SERVICE_UNAVAILABLE: the check failed: RuntimeError"
    assert [line.partition("\n")[0] for line in lines] == [failed, not_ready] * 3
    assert ["\n" in line for line in lines] == [True, *[False] * 5]
    assert "what a client sent" not in caplog.text


async def test_metrics_say_whether_it_is_ready_and_count_why_not() -> None:
    checked = Checked()
    failures = "mcp_adapter_authsvc_failures_total"
    for reason in ("CALLER_NOT_ALLOWED", "RESOURCE_INVALID", "SERVICE_UNAVAILABLE"):
        for operation in ("resolve", "create", "revoke", "ready"):
            assert checked.sample(failures, operation=operation, reason=reason) == 0
    assert checked.sample("mcp_adapter_ready") == 0
    await checked.readiness.check()
    assert checked.sample("mcp_adapter_ready") == 1
    await checked.fails(Reason.CALLER_NOT_ALLOWED)
    assert checked.sample("mcp_adapter_ready") == 0
    assert checked.sample(failures, operation="ready", reason="CALLER_NOT_ALLOWED") == 1


@pytest.mark.parametrize(
    "failure", [AuthError(Reason.SERVICE_UNAVAILABLE), RuntimeError("a defect")]
)
async def test_the_metric_is_current_though_nobody_asks(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "INTERVAL_SECONDS", 0.001)
    checked = Checked()

    async def becomes(ready: bool) -> None:
        while checked.metrics.ready is not ready:  # noqa: ASYNC110 - a metric tells nobody
            await asyncio.sleep(0)

    async with asyncio.timeout(TIMEOUT_SECONDS), checked.readiness.kept_current():
        for _ in range(2):
            checked.resolver.error = None
            await becomes(True)
            checked.resolver.error = failure
            await becomes(False)
