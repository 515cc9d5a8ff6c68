"""The log lines of an adapter that is not ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.domain.errors import AuthError, Reason
from mcp_adapter.server.config import AuthsvcSettings
from mcp_adapter.server.running import _ready
from tests.mcp_adapter.harness import RESOURCE, MemoryResolver, settings

pytestmark = pytest.mark.anyio


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
    resolver = MemoryResolver()
    resolver.error = AuthError(reason)
    authsvc = AuthsvcSettings(
        target="authsvc.internal:50051", ca_file=tmp_path / "ca.pem", service_token_file=token
    )

    with pytest.raises(AuthError):
        await _ready(resolver, settings().model_copy(update={"authsvc": authsvc}))

    (record,) = caplog.records
    fields = record.__dict__
    assert record.getMessage().startswith(f"not ready: {reason.name}")
    assert remedy in record.getMessage()
    assert fields["reason"] == reason.name
    assert fields["target"] == "authsvc.internal:50051"
    assert fields["resource"] == RESOURCE
    assert fields["service_token_file"] == str(token)
    assert "the-service-token" not in str(fields)
