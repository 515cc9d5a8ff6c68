"""A response that continues while its caller may have it.

A response that is not complete ``CHECK_SECONDS`` after its request was admitted is a stream,
whatever the method and the type, unless it comes in one piece. From then on its caller is checked
every ``CHECK_SECONDS``. A stream that begins later is checked before its first byte.

The start of an event stream is sent at once, since its first event may be long in coming. Any other
start is held until the first piece, which shows whether there are several.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from mcp_types import RequestId
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.caller_checks import NO_ANSWER, CallerChecks, Check
from mcp_adapter.gate.response_ends import answer_instead, last_piece
from mcp_adapter.gate.response_starts import EVENT_STREAM, JSON, header, media_type

log = logging.getLogger(__name__)

PIECES = {"http.response.body", "http.response.pathsend", "http.response.zerocopysend"}
"""What a response is made of after its start. Anything else, such as a hint, ends none."""

_ENDED = "the caller may no longer have the response"


class Watched:
    """The response to a request that has just been admitted. The app sends it by ``send``.

    Made in the task that serves the request.

    Args:
        send: towards the client.
        check: asked while the response is a stream.
        refuse: answers in the app's place, while nothing has been sent.
        request_id: of the request that is answered; None where no answer is owed.
        is_repeatable: whether the request may be run twice. A call may not: while nothing has been
            sent it is answered by the refusal as a JSON-RPC error in a 200, because clients repeat
            by themselves what is answered 401.
        log_fields: the fields of log lines that say whom the response is for.
        on_end: called where the response is cut off, before the client is sent anything of it; None
            for nothing.
        on_complete: called once no more of the response is to come, which may be several times;
            None for nothing.
        on_lag: called with the lag of each check that got no answer in time, in seconds.
    """

    def __init__(
        self,
        send: Send,
        check: Check,
        refuse: Callable[[Refusal], Awaitable[None]],
        request_id: RequestId | None = None,
        *,
        is_repeatable: bool = False,
        log_fields: Callable[[], Mapping[str, str]] = dict,
        on_end: Callable[[Refusal], None] | None = None,
        on_complete: Callable[[], None] | None = None,
        on_lag: Callable[[float], object] = float,
    ) -> None:
        self._send = send
        self._refuse = refuse
        self._request_id = request_id
        self._is_repeatable = is_repeatable
        self._log_fields = log_fields
        self._on_end = on_end
        self._on_complete = on_complete
        self._checks = CallerChecks(check, log_fields, on_lag)
        # Not None: asyncio runs each coroutine in a task.
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cancelling = 0
        self._start: Message = {}
        self._is_begun = False
        self._writing = asyncio.Lock()
        self._is_ended = False
        self._tail = b"\n\n"

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have ``app`` serve one request; it is cancelled once its caller may have no more.

        Args:
            app: serves it.
            scope: of the request.
            receive: of the request.
            send: what the app is given: ``self.send``, or what leads there.
        """
        try:
            try:
                await app(scope, receive, send)
            finally:
                self._leave()
            await self._checks.finished()
        except asyncio.CancelledError:
            if not self._is_cancelled_here():
                raise
            await self._checks.finished()
        except Exception as error:
            if not self._is_ended:
                raise
            log.debug("an app whose response was ended failed: %s", type(error).__name__)
            await self._checks.finished()
        finally:
            self._checks.stop()

    async def hold(self, start: Message) -> None:
        """Have the caller checked while a response is held until it is complete.

        Args:
            start: of the response, as the app sent it.

        Raises:
            OSError: the response was ended.
        """
        self._start = start
        await self._be_watched()

    async def send(self, message: Message) -> None:
        """Pass on what the app sends.

        Raises:
            OSError: the response was ended.
        """
        if self._is_ended:
            raise OSError(_ENDED)
        if message["type"] == "http.response.start":
            self._start = message
            if media_type(message) == EVENT_STREAM:
                await self._be_watched()
                async with self._writing:
                    await self._begin()
        elif message["type"] not in PIECES:
            await self._send(message)
        elif message.get("more_body", False):
            await self._be_watched()
            async with self._writing:
                await self._begin()
                await self._send(message)
                self._tail = (self._tail + message.get("body", b"")[-4:])[-4:]
        else:
            self._leave()
            async with self._writing:
                await self._begin()
                await self._send(message)

    async def _begin(self) -> None:
        """Send the start, unless it has been."""
        if not self._is_begun:
            self._is_begun = True
            await self._send(self._start)

    async def _be_watched(self) -> None:
        """Have the caller checked from now on.

        Raises:
            OSError: the response was ended.
        """
        may_go_on = await self._checks.begin(self._start, self._end, self._is_excused)
        if self._is_ended or not may_go_on:
            raise OSError(_ENDED)

    def _is_excused(self, refusal: Refusal) -> bool:
        """Whether an outage does not matter: JSON in pieces is no stream before it has begun."""
        is_no_stream = not self._is_begun and media_type(self._start) == JSON
        return is_no_stream and refusal.status in NO_ANSWER

    async def _end(self, refusal: Refusal) -> None:
        reason = refusal.cause
        log.info("a stream was ended", extra={"reason": reason, **self._log_fields()})
        if self._on_end is not None:
            self._on_end(refusal)
        self._is_ended = True
        self._complete()
        self._cancelling = self._task.cancelling()
        self._task.cancel()
        # Here and not when the app has ended: it may run in a thread that cannot be stopped.
        if self._is_begun:
            await self._send_end(refusal)
        elif self._request_id is None or self._is_repeatable:
            await self._refuse(refusal)
        else:
            await answer_instead(self._send, self._start, refusal, self._request_id)

    async def _send_end(self, refusal: Refusal) -> None:
        if header(self._start, b"content-length"):
            return  # the response stays too short, which the client notices
        async with self._writing:
            await self._send(last_piece(self._start, self._tail, refusal, self._request_id))

    def _is_cancelled_here(self) -> bool:
        """Whether the task was cancelled to end the response, and for no other reason."""
        return self._is_ended and self._task.uncancel() <= self._cancelling

    def _leave(self) -> None:
        """Check no more: nothing is left to be sent."""
        self._complete()
        if not self._is_ended:
            self._checks.stop()

    def _complete(self) -> None:
        if self._on_complete is not None:
            self._on_complete()
