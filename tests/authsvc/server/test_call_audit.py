"""authsvc's audit of calls lasts as long as its service, and is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.audit.calls import CallEvent, CallOutcome
from authsvc.common.settings import ConfigError
from authsvc.server.assembly import assembled
from tests.support.checks import with_gateways
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

FULL = {**with_gateways({"resource": RESOURCE}), "audit": {"calls": "full"}}


async def test_a_stop_writes_the_calls_that_wait(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    path = tmp_path / "events.jsonl"
    async with assembled(settings_for(tmp_path, idp, audit_file=path, **FULL), clock) as service:
        for _ in range(2000):
            service.call_audit.record(
                CallEvent("tools/list", CallOutcome.SUCCEEDED, subject="alice")
            )
    assert len(path.read_text().splitlines()) == 2000
    service.call_audit.record(CallEvent("after the stop", CallOutcome.SUCCEEDED))
    assert service.metrics.audited_calls == {"written": 2000, "dropped": 1, "failed": 0}


async def test_a_file_that_cannot_be_written_stops_the_start(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    settings = settings_for(tmp_path, idp, audit_file=tmp_path, **FULL)
    with pytest.raises(ConfigError, match=r"^audit_file: .*: Is a directory$"):
        async with assembled(settings, clock):
            """It does not come to this."""
