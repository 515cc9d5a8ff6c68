"""An unexpected error discloses nothing, neither to the caller nor in the log."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc import aio

from authsvc.stores.memory import MemoryStore
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import serving, settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


async def test_an_unexpected_error_discloses_nothing(
    tmp_path: Path,
    idp: IdentityProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = idp.token()

    async def broken(store: MemoryStore, session_id: str) -> None:
        raise RuntimeError(f"what an exception may quote: {token}")

    monkeypatch.setattr(MemoryStore, "get", broken)
    async with (
        serving(settings_for(tmp_path, idp), clock) as service,
        aio.insecure_channel(service.address) as channel,
    ):
        stub: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(channel)
        request = pb.ResolveSessionRequest(session_id="s", token=token, resource=RESOURCE)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ResolveSession(request, timeout=TIMEOUT_SECONDS)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    assert token not in str(caught.value)
    assert "a request failed unexpectedly: RuntimeError" in caplog.text
    assert token not in caplog.text


_LOGGING = """
import logging, sys
from authsvc.telemetry import logs
logs.configure("info", sys.argv[1])
def inner(token):
    raise ValueError("broken")
try:
    inner("marked-" + "token")
except ValueError:
    logging.getLogger("x").exception("failed")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_show_no_local_variables(log_format: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LOGGING, log_format],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    assert "ValueError: broken" in result.stderr
    assert "marked-token" not in result.stderr
