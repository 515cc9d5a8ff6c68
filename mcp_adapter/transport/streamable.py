"""MCP over Streamable HTTP for every revision, without a session in the process.

The parts of the SDK that are used here without being in its ``__all__`` are guarded by
``tests/mcp_adapter/transport/test_sdk_contract.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import ServerRunner, aclose_shielded, serve_one
from mcp.server.streamable_http import REQUEST_CANCELLED, check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types import (
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    RequestId,
)
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authsvc.common import arguments
from authsvc.http_auth import eras
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.responses import response_of
from mcp_adapter.transport import cancellation
from mcp_adapter.transport.event_stream import EventStream
from mcp_adapter.transport.message_context import MessageContext
from mcp_adapter.transport.replies import Reply, dumped, json_response, reply_to, request_in
from mcp_adapter.transport.single_exchange import SingleExchange
from mcp_adapter.transport.spans import without_idle_spans


class StreamableHttp:
    """An ASGI app around an MCP server, to be put behind a ``SessionGate``.

    Each POST has a connection of its own, so that any replica can take it. Of the revisions without
    a handshake, the SDK's own entry answers what ``SingleExchange`` does not serve.

    Args:
        server: the MCP server.
        max_body_bytes: longest body of a request.

    Raises:
        TypeError: ``server`` is no ``Server``, or ``max_body_bytes`` no integer.
        ValueError: ``max_body_bytes`` is not above 0.
    """

    def __init__(self, server: Server[Any], *, max_body_bytes: int) -> None:
        arguments.instance_of("server", server, Server)
        arguments.positive_integer("max_body_bytes", max_body_bytes)
        self._server = without_idle_spans(server)
        self._in_flight = cancellation.InFlight()
        self._single = SingleExchange(server, max_body_bytes=max_body_bytes)
        self._manager = StreamableHTTPSessionManager(
            server, stateless=True, max_request_body_size=max_body_bytes
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """The server's lifespan; requests are served inside it. Can be entered once."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one POST."""
        request = Request(scope, receive)
        try:
            version = eras.protocol_version(Headers(scope["headers"]))
        except Refusal as refusal:
            await response_of(refusal.answer(None, resource_metadata=""))(scope, receive, send)
            return
        if not eras.has_sessions(version):
            state = self._lifespan_state
            if (exchange := await self._single.admitted(request, state)) is not None:
                await self._single.serve(exchange, request, receive, send, state)
            else:
                await self._manager.handle_request(scope, receive, send)
        elif not all(check_accept_headers(request)):
            message = "Accept must list application/json and text/event-stream."
            await json_response(_error(message), HTTPStatus.NOT_ACCEPTABLE)(scope, receive, send)
        elif isinstance(request.state.mcp_message, list):
            await (await self._batch(request, version))(scope, receive, send)
        else:
            response = await self._message(request, version, request.state.mcp_message, send)
            if response is not None:
                await response(scope, receive, send)

    async def _message(
        self, request: Request, version: str, message: dict[str, Any], send: Send
    ) -> Response | None:
        """The response; None when it went out as a stream."""
        if (call := request_in(message)) is None:
            if await self._accept(request, version, message):
                return Response(status_code=HTTPStatus.ACCEPTED)
            return json_response(_error(), HTTPStatus.BAD_REQUEST)
        stream = EventStream(send)
        async with stream.kept_alive():
            reply = await self._reply(request, version, call, stream)
        if await stream.finish(reply):
            return None
        # JSON-RPC errors of these revisions travel in a 200. Not so that of an initialize: a 200
        # to it is what gets a session id.
        is_error = call.method == "initialize" and isinstance(reply, JSONRPCError)
        return json_response(dumped(reply), HTTPStatus.BAD_REQUEST if is_error else HTTPStatus.OK)

    async def _batch(self, request: Request, version: str) -> Response:
        """The answer to a batch. Its entries are served one after the other, so that a batch is not
        more concurrent than a single message."""
        replies: list[dict[str, Any]] = []
        for message in request.state.mcp_message:
            # Most entries never suspend: other requests run between them.
            await asyncio.sleep(0)
            if (call := request_in(message)) is not None:
                replies.append(dumped(await self._reply(request, version, call, None)))
            elif not await self._accept(request, version, message):
                replies.append(_error())
        if not replies:
            return Response(status_code=HTTPStatus.ACCEPTED)
        return json_response(replies)

    async def _reply(
        self, request: Request, version: str, call: JSONRPCRequest, stream: EventStream | None
    ) -> Reply:
        context = MessageContext.of(
            request, call.id, progress_token_from_params(call.params), stream
        )
        served = serve_one(
            self._server,
            context,
            call.method,
            call.params,
            connection=Connection.from_envelope(version, None, None),
            lifespan_state=self._lifespan_state,
        )
        reply = await self._in_flight.run(request, call.id, reply_to(call.id, served))
        return reply or _cancelled(call.id)

    async def _accept(self, request: Request, version: str, message: object) -> bool:
        """Handle a notification, or drop a response, as the server sends no requests. False if the
        message is neither."""
        try:
            notification = JSONRPCNotification.model_validate(message)
        except ValidationError:
            return isinstance(message, dict) and ("result" in message or "error" in message)
        if isinstance(message, dict) and "id" in message:
            return False
        if notification.method == cancellation.METHOD:
            self._in_flight.cancel(request, notification.params)
        connection = Connection.from_envelope(version, None, None)
        runner = ServerRunner(self._server, connection, self._lifespan_state)
        try:
            await runner.on_notify(
                MessageContext.of(request), notification.method, notification.params
            )
        finally:
            await aclose_shielded(connection)
        return True

    @property
    def _lifespan_state(self) -> Any:  # noqa: ANN401 - of whatever type the server's lifespan yields
        # The manager enters the server's lifespan, and has no public name for what it yielded.
        return self._manager._lifespan_state  # noqa: SLF001


def _cancelled(request_id: RequestId) -> JSONRPCError:
    """The client no longer waits for it, but an HTTP request has to be answered."""
    error = ErrorData(code=REQUEST_CANCELLED, message="The request was cancelled.")
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=error)


def _error(message: str = "The body is not a JSON-RPC message.") -> dict[str, Any]:
    error = ErrorData(code=INVALID_REQUEST, message=message)
    return dumped(JSONRPCError(jsonrpc="2.0", id=None, error=error)) | {"id": None}
