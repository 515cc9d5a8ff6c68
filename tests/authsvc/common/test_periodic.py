"""Periodic tasks go on, and their failures are logged rarely."""

from __future__ import annotations

import asyncio

import pytest

from authsvc.common.periodic import repeat
from authsvc.common.unexpected import FRAMES_SECONDS, REPEATED_SECONDS, FailureLog
from authsvc.domain.errors import AuthError, Reason
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock


@pytest.mark.anyio
@pytest.mark.parametrize("is_coroutine", [True, False])
@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (AuthError(Reason.STORE_UNAVAILABLE, "full"), "STORE_UNAVAILABLE: full"),
        (RuntimeError("what a client sent"), "RuntimeError\n"),
    ],
)
async def test_a_task_goes_on_after_failures_and_logs_one_a_minute(
    caplog: pytest.LogCaptureFixture, error: Exception, logged: str, is_coroutine: bool
) -> None:
    done = asyncio.Event()
    runs = 0

    def action() -> None:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise error
        done.set()

    async def coroutine() -> None:
        action()

    repeated = repeat("sweep", 0, coroutine if is_coroutine else action, expected=(AuthError,))
    task = asyncio.create_task(repeated)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await done.wait()
    task.cancel()
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"sweep has failed, and will be tried again: {logged}")
    assert "what a client sent" not in caplog.text


def test_a_failure_that_lasts_is_logged_with_its_frames_once_an_hour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    failures = FailureLog("it has failed", clock=clock)

    def logged(failure: type[Exception]) -> list[str]:
        caplog.clear()
        try:
            raise failure
        except failure as error:
            failures.report(error)
        return [record.getMessage() for record in caplog.records]

    (line,) = logged(RuntimeError)
    assert line.startswith("it has failed: RuntimeError\n")
    assert "raise failure" in line
    assert not logged(RuntimeError)
    (other,) = logged(ValueError)
    assert other.startswith("it has failed: ValueError\n")
    clock.advance(REPEATED_SECONDS)
    assert logged(RuntimeError) == ["it has failed: RuntimeError"]
    clock.advance(FRAMES_SECONDS)
    (line,) = logged(RuntimeError)
    assert "raise failure" in line
