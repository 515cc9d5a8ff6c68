"""Context variables that end with a request.

A handler runs in the task of its request. uvicorn begins the next request of a pipelined connection
from within the last ``send`` of the one before, and so in a copy of its context: what a handler had
set there would be seen by the next one, which may be another caller's.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")


class OwnContext(Generic[ResultT]):
    """Awaits a coroutine in a copy of the current context, without a task.

    Args:
        coroutine: sees the variables as they are now; what it sets, nobody else sees.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, ResultT]:
        """What the coroutine returns or raises."""
        context, coroutine = copy_context(), self._coroutine
        step: Any = coroutine.send
        value: Any = None
        while True:
            try:
                awaited = context.run(step, value)
            except StopIteration as stop:
                result: ResultT = stop.value
                return result
            try:
                step, value = coroutine.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001 - the coroutine decides
                step, value = coroutine.throw, error
