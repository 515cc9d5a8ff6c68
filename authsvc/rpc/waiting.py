"""Calls that wait for their client: how many there may be, and who goes first.

Until its request is there, grpc.aio runs a unary call without a handler, so nobody is identified
and nothing ends it. Few of those are left to themselves: that costs nothing. Where there are many,
further ones are taken over as they begin: an unauthenticated caller is rejected at once, and a
known one waits in its own name, for a time.

A client also has to take its answer: one that leaves no room for it (a flow-control window of 0)
holds its call for as long as the connection lasts. A status goes without room, a message does not,
and grpc.aio sends a message, an empty one, with each status that a unary handler sets. Once many
refused calls wait like that, the next ones end with a status alone. Once many answers of open
methods do, a connection has one of them at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, cast

import grpc
from grpc import aio

from authsvc.domain.errors import AuthError, Reason
from authsvc.rpc.admission import Admission, any_registered
from authsvc.rpc.errors import end_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.registration import Handler

Behavior = Callable[[Any, Context], Awaitable[Any]]


class BoundedHandlers(grpc.GenericRpcHandler):
    """Handlers whose calls wait for their clients in bounded numbers. Belongs to one event loop.

    Args:
        handlers: what is served.
        admission: identifies and admits callers.
        max_waiting: unidentified calls that may wait for their request; as many calls that failed,
            and as many calls of open methods, may wait for their client to take the end.
        wait_seconds: how long a call may wait for its request once there are so many.
        open_methods: full names of the methods that need no identified caller. Beyond
            ``max_waiting`` the call that has waited longest is rejected for the next.
    """

    def __init__(
        self,
        handlers: Iterable[grpc.GenericRpcHandler],
        admission: Admission,
        *,
        max_waiting: int,
        wait_seconds: float,
        open_methods: Iterable[str] = (),
    ) -> None:
        self._handlers = tuple(handlers)
        self._admission = admission
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._open_methods = frozenset(open_methods)
        self._found: dict[str, tuple[Handler, Handler | None]] = {}
        self._unidentified: set[asyncio.Task[Any]] = set()
        self._refused: set[asyncio.Task[Any]] = set()
        self._open_calls: Counter[str] = Counter()
        self._waiting: OrderedDict[asyncio.Timeout, None] = OrderedDict()

    @property
    def unidentified(self) -> int:
        """How many calls wait for their request, their callers unknown."""
        return len(self._unidentified)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call that begins; called in the task that will run it."""
        method = handler_call_details.method
        found = self._found.get(method) or self._find(method, handler_call_details)
        if found is None:
            return None
        handler, bounded = found
        if bounded is None:
            return handler
        if len(self._unidentified) >= self._max_waiting:
            return bounded
        task = asyncio.current_task()
        if task is not None:
            self._unidentified.add(task)
            task.add_done_callback(self._unidentified.discard)
        return handler

    def _find(
        self, method: str, details: grpc.HandlerCallDetails
    ) -> tuple[Handler, Handler | None] | None:
        for one in self._handlers:
            handler = one.service(details)
            if handler is not None:
                found = self._found[method] = self._wrapped(handler, method in self._open_methods)
                return found
        return None

    def _wrapped(self, handler: Handler, is_open: bool) -> tuple[Handler, Handler | None]:
        """The handler with its arrivals noted, and the one that waits for the request itself."""
        coders = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            return handler, None
        if handler.response_streaming:
            streaming = cast("Behavior", handler.unary_stream)
            noted = grpc.unary_stream_rpc_method_handler(self._noted(streaming, is_open), **coders)
            bounded = self._bounded(streaming, is_open, streams=True)
        else:
            unary = cast("Behavior", handler.unary_unary)
            noted = grpc.unary_unary_rpc_method_handler(self._noted(unary, is_open), **coders)
            bounded = self._bounded(unary, is_open, streams=False)
        return noted, grpc.stream_stream_rpc_method_handler(bounded, **coders)

    def _noted(self, behavior: Behavior, is_open: bool) -> Behavior:
        async def noted(request: object, context: Context) -> object:
            task = cast("asyncio.Task[Any]", asyncio.current_task())
            self._unidentified.discard(task)
            if is_open:
                try:
                    self._begin_open(task, context)
                except AuthError as error:
                    end_with_status(error, context)
                    await _end_at_once(context)
            answer = await behavior(request, context)
            if context.code() not in _OK:
                if len(self._refused) >= self._max_waiting:
                    await _end_at_once(context)
                self._refused.add(task)
                task.add_done_callback(self._refused.discard)
            return answer

        return noted

    def _begin_open(self, task: asyncio.Task[Any], context: Context) -> None:
        """Count a call of an open method until its client has taken the answer.

        Raises:
            AuthError: OVERLOADED: there are many, and one of them is of the same connection.
        """
        peer = str(context.peer())
        if peer.startswith("unix:"):
            return  # all of its connections have one name, and its folder keeps strangers out
        if self._open_calls.total() >= self._max_waiting and self._open_calls[peer]:
            raise AuthError(Reason.OVERLOADED, "answers are left unread")
        self._open_calls[peer] += 1
        task.add_done_callback(partial(self._end_open, peer))

    def _end_open(self, peer: str, _: object) -> None:
        self._open_calls[peer] -= 1
        if not self._open_calls[peer]:
            del self._open_calls[peer]

    def _bounded(self, behavior: Behavior, is_open: bool, *, streams: bool) -> Behavior:
        async def bounded(_: object, context: Context) -> None:
            try:
                request = await (self._anybodys(context) if is_open else self._known(context))
                if is_open:
                    self._begin_open(cast("asyncio.Task[Any]", asyncio.current_task()), context)
            except AuthError as error:
                end_with_status(error, context)
                return
            answer = await behavior(request, context)
            if not streams and context.code() in _OK:
                await context.write(answer)

        return bounded

    async def _known(self, context: Context) -> object:
        """The request of a known caller, which has the call in flight while it waits."""
        with self._admission.call(context, any_registered):
            try:
                async with asyncio.timeout(self._wait_seconds):
                    return _request(await context.read())
            except TimeoutError:
                raise _late() from None

    async def _anybodys(self, context: Context) -> object:
        """The request of anybody, where the newest calls may wait."""
        try:
            async with asyncio.timeout(self._wait_seconds) as timeout:
                self._waiting[timeout] = None
                try:
                    if len(self._waiting) > self._max_waiting:
                        oldest, _ = self._waiting.popitem(last=False)
                        # One whose time is up may not have got as far as to leave.
                        if not oldest.expired():
                            oldest.reschedule(asyncio.get_running_loop().time())
                    return _request(await context.read())
                finally:
                    self._waiting.pop(timeout, None)
        except TimeoutError:
            raise _late() from None


_OK = frozenset({None, grpc.StatusCode.OK})
"""The code of a call that is answered: most handlers set none."""


async def _end_at_once(context: Context) -> None:
    """End a refused call with its status alone, which is sent without room for a message."""
    await context.abort(context.code(), context.details(), context.trailing_metadata())


def _request(message: object) -> object:
    if message is aio.EOF:
        raise AuthError(Reason.ARGUMENT_INVALID, "a call without a request")
    return message


def _late() -> AuthError:
    return AuthError(Reason.OVERLOADED, "the request did not come in time", retry_after_seconds=1.0)
