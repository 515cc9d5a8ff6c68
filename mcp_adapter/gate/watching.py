"""A response that goes on for as long as its caller may have it.

A response that is not complete ``CHECK_SECONDS`` after its request was admitted is a stream,
whatever the method and the type, unless it comes in one piece. From then on its caller is checked
every ``CHECK_SECONDS``. A stream that begins later is checked before its first byte.

The start of an event stream is sent at once, since its first event may be long in coming. Any other
start is held until the first piece, which shows whether there are several.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any

from mcp_types import RequestId
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_adapter.gate import refusals
from mcp_adapter.gate.refusals import Refusal

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
"""From a request's admission to the first check of its stream's caller, and from one check to the
next; each costs a resolve."""

ANSWER_SECONDS = 0.45
"""So long an answer is waited for, and asked for again where it was none. Together with
``CHECK_SECONDS`` it is within the second that is published."""

RETRY_SECONDS = 0.1
"""From an answer that was none to the next question."""

_NO_ANSWER = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
}

_PIECES = {"http.response.body", "http.response.pathsend", "http.response.zerocopysend"}
"""What a response is made of after its start. Anything else, such as a hint, ends none."""

_WITHOUT_CONTENT = {
    HTTPStatus.ACCEPTED,
    HTTPStatus.NO_CONTENT,
    HTTPStatus.RESET_CONTENT,
    HTTPStatus.NOT_MODIFIED,
}
"""Answers that have no content: ACCEPTED is what MCP answers to a notification."""

_JSON = "application/json"
_EVENT_STREAM = "text/event-stream"

_OF_CONTENT = {b"content-type", b"content-length", b"content-encoding"}
"""Headers that say how the content of the app's answer is written."""

_ENDED = "the caller may no longer have the response"

_EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")

Check = Callable[[], Awaitable[None]]
"""Asks whether the caller may still have its response. Raises ``Refusal`` where it may not."""


class Watched:
    """The response to a request that has just been admitted. The app sends it by ``send``.

    Args:
        send: towards the client.
        check: asked while the response is a stream.
        refuse: answers in the app's place, while nothing has been sent.
        request_id: of the request that is answered; None where no answer is owed.
        is_repeatable: whether the request may be run twice. A call may not: while nothing has been
            sent it is answered by the refusal as a JSON-RPC error in a 200, because clients repeat
            by themselves what is answered 401.
        whose: the fields of log lines that say whom the response is for.
    """

    def __init__(
        self,
        send: Send,
        check: Check,
        refuse: Callable[[Refusal], Awaitable[None]],
        request_id: RequestId | None = None,
        *,
        is_repeatable: bool = False,
        whose: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._send = send
        self._check = check
        self._refuse = refuse
        self._request_id = request_id
        self._is_repeatable = is_repeatable
        self._whose = whose
        self._admitted_at = monotonic()
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._start: Message = {}
        self._is_begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._first_check: asyncio.Event | None = None
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
        self._task = asyncio.current_task()
        try:
            try:
                await app(scope, receive, send)
            finally:
                self._leave()
            await self._watch_over()
        except asyncio.CancelledError:
            if not self._is_cancelled_here():
                raise
            await self._watch_over()
        except Exception as error:
            if not self._is_ended:
                raise
            log.debug("an app whose response was ended failed: %s", type(error).__name__)
            await self._watch_over()
        finally:
            if self._watch is not None:
                self._watch.cancel()

    async def send(self, message: Message) -> None:
        """Pass on what the app sends.

        Raises:
            OSError: the response was ended.
        """
        if self._is_ended:
            raise OSError(_ENDED)
        if message["type"] == "http.response.start":
            self._start = message
            if _media_type(message) == _EVENT_STREAM:
                await self._be_watched()
                async with self._writing:
                    await self._begin()
        elif message["type"] not in _PIECES:
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
        """Have the caller checked from now on. Where the first check is overdue, wait for it.

        Raises:
            OSError: the response was ended.
        """
        if self._timer is None and self._first_check is None:
            self._begin_watch()
        if self._first_check is not None:
            await self._first_check.wait()
            if self._is_ended or self._watch is None or self._watch.done():
                raise OSError(_ENDED)

    def _begin_watch(self) -> None:
        now = monotonic()
        is_overdue = now > self._admitted_at + CHECK_SECONDS
        if is_overdue and not _has_known_length(self._start):
            self._first_check = asyncio.Event()
            self._watch_now()
            return
        since = now if is_overdue else self._admitted_at
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(since + CHECK_SECONDS - now, self._watch_now)

    def _watch_now(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._watch_caller())
        # Here and not in the task, which may be cancelled before it has begun.
        self._watch.add_done_callback(lambda _: self._release())

    async def _watch_caller(self) -> None:
        began = monotonic()
        while (refusal := await self._refusal()) is None or self._is_excused(refusal):
            self._release()
            await asyncio.sleep(began + CHECK_SECONDS - monotonic())
            began = monotonic()
        await self._end(refusal)

    def _is_excused(self, refusal: Refusal) -> bool:
        """Whether an outage does not matter: JSON in pieces is no stream before it has begun."""
        is_no_stream = not self._is_begun and _media_type(self._start) == _JSON
        return is_no_stream and refusal.status in _NO_ANSWER

    def _release(self) -> None:
        """Wake what waits for the first check."""
        if self._first_check is not None:
            self._first_check.set()

    async def _refusal(self) -> Refusal | None:
        """Why the caller may have no more; None while it may. No answer in time is a no, too."""
        refusal = refusals.service_unavailable()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    try:
                        await self._check()
                    except Refusal as raised:
                        refusal = raised
                        if refusal.status not in _NO_ANSWER:
                            return refusal
                    else:
                        return None
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            return refusal
        except Exception as error:  # noqa: BLE001 - a watch that breaks may not leave its stream on
            name = type(error).__name__
            log.error("a stream's caller cannot be looked at: %s", name, extra=self._whose())
            return refusals.internal_error()

    async def _end(self, refusal: Refusal) -> None:
        reason = refusal.reason or refusal.status.name
        log.info("a stream was ended", extra={"reason": reason, **self._whose()})
        self._is_ended = True
        if self._task is not None:
            self._cancelling = self._task.cancelling()
            self._task.cancel()
        # Here and not once the app has come to its end: it may be in a thread that nobody can stop.
        if self._is_begun:
            await self._send_end(refusal)
        elif self._request_id is None or self._is_repeatable:
            await self._refuse(refusal)
        else:
            await self._answer(refusal)

    async def _answer(self, refusal: Refusal) -> None:
        """Answer a call in the app's place, in an event where the app began an event stream."""
        is_event_stream = _media_type(self._start) == _EVENT_STREAM
        media_type = _EVENT_STREAM if is_event_stream else _JSON
        headers = [
            (name, value)
            for name, value in self._start.get("headers", ())
            if name.lower() not in _OF_CONTENT
        ]
        headers.append((b"content-type", media_type.encode()))
        body = self._event(refusal) if is_event_stream else self._error(refusal)
        await self._send({**self._start, "status": HTTPStatus.OK.value, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _send_end(self, refusal: Refusal) -> None:
        if _header(self._start, b"content-length"):
            return  # the server cuts off what is too short, and the client notices
        async with self._writing:
            last = self._event(refusal) if self._can_take_event() else b""
            await self._send({"type": "http.response.body", "body": last, "more_body": False})

    def _can_take_event(self) -> bool:
        """Whether what was sent can be followed by the event that answers the request."""
        is_plain = not _header(self._start, b"content-encoding")
        is_event_stream = is_plain and _media_type(self._start) == _EVENT_STREAM
        is_owed = self._request_id is not None
        return is_owed and is_event_stream and self._tail.endswith(_EVENT_ENDS)

    def _event(self, refusal: Refusal) -> bytes:
        return b"event: message\r\ndata: " + self._error(refusal) + b"\r\n\r\n"

    def _error(self, refusal: Refusal) -> bytes:
        return json.dumps(refusal.message_for(self._request_id), separators=(",", ":")).encode()

    def _is_cancelled_here(self) -> bool:
        """Whether the task was cancelled to end the response, and by nobody else besides."""
        task = self._task
        return self._is_ended and task is not None and task.uncancel() <= self._cancelling

    def _leave(self) -> None:
        """Watch no more: nothing is left to be sent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None and not self._is_ended:
            self._watch.cancel()

    async def _watch_over(self) -> None:
        """Wait until the end has been sent, if it was the watch that came to it."""
        if self._watch is None:
            return
        await asyncio.wait([self._watch])
        if not self._watch.cancelled():
            self._watch.exception()  # the client may have left before the end was sent


def _has_known_length(start: Message) -> bool:
    """Whether the answer was complete when it began, whatever pieces a framework makes of it."""
    return start.get("status") in _WITHOUT_CONTENT or bool(_header(start, b"content-length"))


def _media_type(start: Message) -> str:
    return _header(start, b"content-type").partition(";")[0].strip().lower()


def _header(start: Message, name: bytes) -> str:
    """A header's value; empty without it. ASGI has names in lower case, but not every app does."""
    for key, value in start.get("headers", ()):
        if key.lower() == name:
            return str(value, "latin-1")
    return ""
