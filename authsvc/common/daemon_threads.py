"""Threads that a program can end without: for calls of the system that may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class DaemonThreads(ThreadPoolExecutor):
    """The default executor of an event loop: a thread for each call, which nobody waits for in the
    end. Python's own waits for its threads, of which it has few: one that reads a disk or asks a
    name server that hangs keeps other calls waiting, and the program from ending.

    Its callers bound how many calls there are.
    """

    def submit(
        self, fn: Callable[ParamsT, ResultT], /, *args: ParamsT.args, **kwargs: ParamsT.kwargs
    ) -> Future[ResultT]:
        """See ``Executor.submit``."""
        future: Future[ResultT] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See ``Executor.shutdown``: there is nothing to end."""
