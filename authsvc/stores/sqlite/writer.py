"""The thread that writes: everything that is queued, in one transaction (group commit)."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from authsvc.domain.errors import AuthError
from authsvc.domain.record import Record
from authsvc.stores import OnRemoved
from authsvc.stores.sqlite.schema import connect, unavailable
from authsvc.stores.sqlite.transaction import Bounds, Transaction

ResultT = TypeVar("ResultT")

MAX_QUEUED_WRITES = 10_000
"""Further writes are rejected: a slow disk must not fill the memory."""

WRITE_SECONDS = 1.5
"""How long a caller waits for its write: less than the default deadline of calls, so that it learns
that the store takes no writes, and not only that there is no answer."""


@dataclass(slots=True)
class _Write:
    operation: Callable[[Transaction], Any]
    done: asyncio.Future[Any] | None
    has_begun: bool = False


class Writer:
    """Runs queued writes, in their order.

    Args:
        path: the database file.
        bounds: on what the file may grow to.
        loop: the event loop of the callers.
        on_removed: is called on it with each record that was removed.
    """

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        loop: asyncio.AbstractEventLoop,
        on_removed: OnRemoved,
    ) -> None:
        self._on_removed = on_removed
        self._path = path
        self._loop = loop
        self._queue: queue.Queue[_Write | None] = queue.Queue(MAX_QUEUED_WRITES)
        self._bounds = bounds
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Transaction], ResultT]) -> ResultT:
        """Queue a write, and return its result once it is on disk.

        Raises:
            AuthError: STORE_UNAVAILABLE. Where it ``is_unanswered``, the write had begun when
                ``WRITE_SECONDS`` had passed; else nothing has been written, and nothing will be.
        """
        done: asyncio.Future[ResultT] = self._loop.create_future()
        write = self.submit(operation, done)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await done
        except TimeoutError:
            raise unavailable(
                f"{self._path}: no write has ended in {WRITE_SECONDS} s: another process holds the "
                "file, or the disk does not answer",
                is_unanswered=write.has_begun,
            ) from None

    def submit(
        self,
        operation: Callable[[Transaction], ResultT],
        done: asyncio.Future[ResultT] | None = None,
    ) -> _Write:
        """Queue a write.

        Args:
            operation: the write.
            done: gets its result, or its failure; None if no caller waits.

        Raises:
            AuthError: STORE_UNAVAILABLE: the store is closed, or too many writes are queued.
        """
        if self._closed:
            raise unavailable("the store is closed")
        try:
            self._queue.put_nowait(write := _Write(operation, done))
        except queue.Full:
            raise unavailable(f"{MAX_QUEUED_WRITES} writes are waiting") from None
        return write

    async def close(self) -> None:
        """Run what is queued, and end the thread."""
        self._closed = True
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        connection = connect(self._path)
        try:
            while (first := self._queue.get()) is not None:
                batch, ended = [first], False
                while not self._queue.empty():
                    item = self._queue.get_nowait()
                    if item is None:
                        ended = True
                        break
                    batch.append(item)
                if batch := [write for write in batch if _begins(write)]:
                    self._commit(connection, batch)
                if ended:
                    return
        finally:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Write]) -> None:
        transaction = Transaction(connection, self._bounds)
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [write.operation(transaction) for write in batch]
            transaction.trim()
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread must go on
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = unavailable(f"{self._path}: {error}")
            self._loop.call_soon_threadsafe(_fail, batch, failure)
        else:
            self._loop.call_soon_threadsafe(self._succeed, batch, results, transaction.removed)

    def _succeed(self, batch: list[_Write], results: list[Any], removed: list[Record]) -> None:
        _set_results(batch, results)
        # Before those who wait for the results go on.
        for record in removed:
            self._on_removed(record.id, record)


def _begins(write: _Write) -> bool:
    """Whether it begins now: not where its caller waits no longer."""
    # First: a caller that gives up after the next line has to find that it has begun.
    write.has_begun = True
    return write.done is None or not write.done.cancelled()


def _set_results(batch: list[_Write], results: list[Any]) -> None:
    for write, result in zip(batch, results, strict=True):
        if write.done is not None and not write.done.done():
            write.done.set_result(result)


def _fail(batch: list[_Write], failure: AuthError) -> None:
    for write in batch:
        if write.done is not None and not write.done.done():
            write.done.set_exception(AuthError(failure.reason, failure.detail))
