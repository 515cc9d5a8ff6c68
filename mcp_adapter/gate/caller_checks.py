"""Whether the caller of a response that streams may still have it: checked at an interval."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any

from starlette.types import Message

from authsvc.http_auth import refusals
from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.response_starts import has_known_length

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
"""From a request's admission to the first check of its stream's caller, and from one check to the
next; each costs a resolve."""

ANSWER_SECONDS = 0.45
"""Timeout of one check, its repetitions included. Together with ``CHECK_SECONDS`` it is within the
second that is published."""

RETRY_SECONDS = 0.1
"""From a check without an answer to its repetition."""

NO_ANSWER = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Statuses that say nothing of the caller: the check is repeated."""


Check = Callable[[], Awaitable[None]]
"""Asks whether the caller may still have its response. Raises ``Refusal`` where it may not."""


class CallerChecks:
    """The checks of one response, timed from its request's admission. There are none before
    ``begin``.

    Args:
        check: asks.
        log_fields: the fields of log lines that say whom the response is for.
        on_lag: called for a check that got no answer in time, with the seconds by which it ended
            too late: for so long nothing else could run.
    """

    def __init__(
        self,
        check: Check,
        log_fields: Callable[[], Mapping[str, str]],
        on_lag: Callable[[float], object],
    ) -> None:
        self._check = check
        self._log_fields = log_fields
        self._on_lag = on_lag
        self._admitted_at = monotonic()
        self._due_at = self._admitted_at
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._first_check: asyncio.Event | None = None

    async def begin(
        self,
        start: Message,
        end: Callable[[Refusal], Awaitable[None]],
        is_excused: Callable[[Refusal], bool],
    ) -> bool:
        """Check the caller from now on. Where the first check is overdue, wait for it.

        Args:
            start: of the response.
            end: ends the response, once the caller may have no more of it.
            is_excused: whether a refusal does not matter yet.

        Returns:
            Whether the response may go on.
        """
        if self._timer is None and self._first_check is None:
            # Not in the constructor: what refers to its owner is freed late, and most responses
            # do not stream.
            self._schedule(start, partial(self._check_repeatedly, end, is_excused))
        if self._first_check is None:
            return True
        await self._first_check.wait()
        return self._task is not None and not self._task.done()

    def stop(self) -> None:
        """Make no more checks."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def finished(self) -> None:
        """Wait until the end of the response has been sent, if a check has ended it."""
        if self._task is None:
            return
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # the client may have left before the end was sent

    def _schedule(self, start: Message, checks: Callable[[], Coroutine[Any, Any, None]]) -> None:
        now = monotonic()
        is_overdue = now > self._admitted_at + CHECK_SECONDS
        if is_overdue and not has_known_length(start):
            self._first_check = asyncio.Event()
            self._due_at = now
            self._begin_task(checks)
            return
        self._due_at = (now if is_overdue else self._admitted_at) + CHECK_SECONDS
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._due_at - now, self._begin_task, checks)

    def _begin_task(self, checks: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.get_running_loop().create_task(checks())
        # Here and not in the task, which may be cancelled before it has begun.
        self._task.add_done_callback(lambda _: self._release())

    async def _check_repeatedly(
        self,
        end: Callable[[Refusal], Awaitable[None]],
        is_excused: Callable[[Refusal], bool],
    ) -> None:
        began = monotonic()
        while (refusal := await self._refusal()) is None or is_excused(refusal):
            self._release()
            self._due_at = began + CHECK_SECONDS
            await asyncio.sleep(self._due_at - monotonic())
            began = monotonic()
        await end(refusal)

    def _release(self) -> None:
        """Wake what waits for the first check."""
        if self._first_check is not None:
            self._first_check.set()

    async def _refusal(self) -> Refusal | None:
        """Why the caller may have no more; None while it may. No answer in time is a refusal."""
        refusal = refusals.service_unavailable()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    try:
                        await self._check()
                    except Refusal as raised:
                        refusal = raised
                        if refusal.status not in NO_ANSWER:
                            return refusal
                    else:
                        return None
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            self._on_lag(monotonic() - self._due_at - ANSWER_SECONDS)
            return refusal
        except Exception as error:  # noqa: BLE001 - a check that fails ends its stream
            name = type(error).__name__
            log.error("a stream's caller cannot be checked: %s", name, extra=self._log_fields())
            return refusals.internal_error()
