"""Bounds the calls that wait for their clients.

Until its request has arrived, grpc.aio runs a unary call without a handler: no caller is
identified, and nothing ends the call. A few such calls are left alone, which costs nothing. Beyond
``max_waiting``, further calls are read here as they begin: an unauthenticated caller is rejected at
once, and a registered one waits for a bounded time, with the call counted as its own.

A client also has to take its response: one that leaves no room for it (a flow-control window of 0)
holds its call for as long as the connection lasts. A status is sent without room, a message is not,
and grpc.aio sends an empty message with each status that a unary handler sets. Once ``max_waiting``
failed calls wait like that, the next ones end with a status alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import grpc

from authsvc.domain.errors import AuthError
from authsvc.rpc.admission import Admission
from authsvc.rpc.errors import end_with_status
from authsvc.rpc.metadata import Context
from authsvc.rpc.open_calls import OpenCalls
from authsvc.rpc.registration import Handler
from authsvc.rpc.request_reader import RequestReader

Behavior = Callable[[Any, Context], Awaitable[Any]]


class BoundedHandlers(grpc.GenericRpcHandler):
    """Handlers of which a bounded number of calls wait for their clients. For one event loop.

    Args:
        handlers: of the services.
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
        self._max_waiting = max_waiting
        self._open_methods = frozenset(open_methods)
        self._found: dict[str, tuple[Handler, Handler | None]] = {}
        self._unidentified: set[asyncio.Task[Any]] = set()
        self._failed: set[asyncio.Task[Any]] = set()
        self._open_calls = OpenCalls(max_waiting, admission)
        self._reader = RequestReader(admission, max_waiting=max_waiting, wait_seconds=wait_seconds)

    @property
    def unidentified(self) -> int:
        """How many calls wait for their request, their callers not identified."""
        return len(self._unidentified)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call that begins. Called in the task that will run it."""
        method = handler_call_details.method
        found = self._found.get(method) or self._find(method, handler_call_details)
        if found is None:
            return None
        handler, reading = found
        if reading is None:
            return handler
        if len(self._unidentified) >= self._max_waiting:
            return reading
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
        """The handler for calls that grpc.aio reads, and the one for calls that are read here."""
        coders = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            return handler, None
        if handler.response_streaming:
            streaming = cast("Behavior", handler.unary_stream)
            usual = grpc.unary_stream_rpc_method_handler(
                self._read_by_grpc(streaming, is_open), **coders
            )
            reading = self._read_here(streaming, is_open, streams=True)
        else:
            unary = cast("Behavior", handler.unary_unary)
            usual = grpc.unary_unary_rpc_method_handler(
                self._read_by_grpc(unary, is_open), **coders
            )
            reading = self._read_here(unary, is_open, streams=False)
        return usual, grpc.stream_stream_rpc_method_handler(reading, **coders)

    def _read_by_grpc(self, behavior: Behavior, is_open: bool) -> Behavior:
        async def read_by_grpc(request: object, context: Context) -> object:
            task: Any = asyncio.current_task()
            self._unidentified.discard(task)
            if is_open:
                try:
                    self._open_calls.begin(task, context)
                except AuthError as error:
                    end_with_status(error, context)
                    await _end_at_once(context)
            answer = await behavior(request, context)
            if context.code() not in _OK:
                if len(self._failed) >= self._max_waiting:
                    await _end_at_once(context)
                self._failed.add(task)
                task.add_done_callback(self._failed.discard)
            return answer

        return read_by_grpc

    def _read_here(self, behavior: Behavior, is_open: bool, *, streams: bool) -> Behavior:
        async def read_here(_: object, context: Context) -> None:
            try:
                if is_open:
                    request = await self._reader.read_open(context)
                    task: Any = asyncio.current_task()
                    self._open_calls.begin(task, context)
                else:
                    request = await self._reader.read(context)
            except AuthError as error:
                end_with_status(error, context)
                return
            answer = await behavior(request, context)
            if not streams and context.code() in _OK:
                await context.write(answer)

        return read_here


_OK = frozenset({None, grpc.StatusCode.OK})
"""The code of a call that succeeds: most handlers set none."""


async def _end_at_once(context: Context) -> None:
    """End a call that failed with its status alone, which is sent without room for a message."""
    await context.abort(context.code(), context.details(), context.trailing_metadata())
