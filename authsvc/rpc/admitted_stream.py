"""A call that lasts, of an identified caller: a stream or a watch.

Its caller is identified again, twice a second and with each message: a service token that is
withdrawn ends its streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from authsvc.access.callers import Caller
from authsvc.access.usage import Usage
from authsvc.domain.errors import AuthError
from authsvc.rpc.metadata import Context

IDENTIFY_SECONDS = 0.5
"""The interval in which the caller of a stream is identified again."""


class AdmittedStream:
    """One stream. It counts as one of the caller's streams until it ends, or until the caller is no
    longer known, however slowly its client reads.

    Args:
        context: of the call.
        caller: of the call.
        usage: of the caller.
        identify: identifies the caller by what is registered now.

    Raises:
        AuthError: OVERLOADED.
    """

    def __init__(
        self, context: Context, caller: Caller, usage: Usage, identify: Callable[[], Caller]
    ) -> None:
        usage.begin_stream()
        self.caller = caller
        """Its caller."""
        self._context = context
        self._usage: Usage | None = usage
        self._identify = identify

    def end(self) -> None:
        """Stop counting it."""
        if self._usage is not None:
            self._usage.end_stream()
            self._usage = None

    def identify(self) -> Caller:
        """The caller, by what is registered now.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        try:
            return self._identify()
        except AuthError:
            self.end()
            raise

    async def first_done(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Wait for the first of some tasks of the stream, for as long as the caller is known.

        Raises:
            AuthError: CALLER_NOT_ALLOWED, once nothing that the call presented identifies a caller.
        """
        while True:
            done, _ = await asyncio.wait(
                tasks, timeout=IDENTIFY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            self.identify()

    async def write(self, message: object) -> None:
        """Write to the client, if the caller is known.

        Raises:
            AuthError: CALLER_NOT_ALLOWED. No write is under way then: gRPC rejects the end of a
                call beside a write, and the client would wait for ever.
        """
        self.identify()
        writing = asyncio.ensure_future(self._context.write(message))
        try:
            await self.first_done((writing,))
            await writing
        except AuthError:
            await asyncio.wait((writing,))
            raise
        finally:
            writing.cancel()
