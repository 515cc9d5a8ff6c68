"""The requests of a stream that wait for their answers, with one timer for all of them."""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple

from authsvc.client.failures import TIMED_OUT, AttemptError, Failure

_SLACK_SECONDS = 0.001
"""Timers may be early by the resolution of the event loop's clock."""

_NEVER = float("inf")


class _Request(NamedTuple):
    answer: asyncio.Future[bytes]
    deadline: float


class WaitingRequests:
    """Requests by their ids.

    A timer runs until the earliest deadline that it was set for. Then it looks at all requests that
    wait, and is set for the earliest of theirs. A request that is answered in time costs no timer.

    Args:
        loop: the running event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ids = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = _NEVER

    def add(self, timeout_seconds: float) -> tuple[int, asyncio.Future[bytes]]:
        """A new request: its id, and its answer, which fails with ``AttemptError``."""
        request_id = next(self._ids)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        deadline = self._loop.time() + timeout_seconds
        self._requests[request_id] = _Request(answer, deadline)
        if deadline < self._due:
            self._wait_until(deadline)
        return request_id, answer

    def waits(self, request_id: int) -> bool:
        """Whether anybody waits for an answer."""
        request = self._requests.get(request_id)
        return request is not None and not request.answer.done()

    def remove(self, request_id: int) -> bool:
        """Wait for it no longer; whether it was waited for."""
        return self._requests.pop(request_id, None) is not None

    def answer(self, request_id: int, answer: bytes | Failure) -> None:
        """The answer has arrived."""
        request = self._requests.pop(request_id, None)
        if request is not None:
            _give(request.answer, answer)

    def fail(self, failure: Failure) -> None:
        """Nothing more is answered."""
        if self._timer is not None:
            self._timer.cancel()
        requests = [*self._requests.values()]
        self._requests.clear()
        for request in requests:
            _give(request.answer, failure)

    def _wait_until(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self._loop.call_at(deadline, self._time_out)

    def _time_out(self) -> None:
        now = self._loop.time() + _SLACK_SECONDS
        earliest = _NEVER
        for request in self._requests.values():
            if request.deadline <= now:
                _give(request.answer, TIMED_OUT)
            else:
                earliest = min(earliest, request.deadline)
        self._timer, self._due = None, _NEVER
        if earliest < _NEVER:
            self._wait_until(earliest)


def _give(answer: asyncio.Future[bytes], result: bytes | Failure) -> None:
    if answer.done():
        return
    if isinstance(result, bytes):
        answer.set_result(result)
    else:
        answer.set_exception(AttemptError(result))
