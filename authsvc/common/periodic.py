"""Runs an action periodically, whatever it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from authsvc.common.unexpected import FailureLog


async def repeat(
    what: str,
    seconds: float,
    action: Callable[[], Awaitable[object] | None],
    *,
    begin: float | None = None,
    expected: tuple[type[Exception], ...] = (),
) -> None:
    """Run an action periodically, for ever. A failure does not end it, and is logged as
    ``FailureLog`` does.

    Args:
        what: its name in the log.
        seconds: from the end of one run to the start of the next.
        action: is run, and awaited where it is a coroutine function.
        begin: seconds until the first run; None for ``seconds``.
        expected: exceptions whose messages are for the log.
    """
    failures = FailureLog(f"{what} has failed, and will be tried again", expected)
    await asyncio.sleep(seconds if begin is None else begin)
    while True:
        try:
            if (running := action()) is not None:
                await running
        except Exception as error:  # noqa: BLE001 - the task must go on
            failures.report(error)
        await asyncio.sleep(seconds)
