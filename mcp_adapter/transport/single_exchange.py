"""Requests of the revisions without a handshake: one POST, one request, one answer.

A request that the SDK's own entry would serve is served here, without the tasks and streams that it
makes for each. All others go to that entry, which answers them: notifications, what it refuses, and
``subscriptions/listen``, whose answer is a stream without an end.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
from mcp.server._streamable_http_modern import _mcp_param_rejection
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
)
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types import JSONRPCError, JSONRPCRequest
from starlette.requests import Request
from starlette.types import Receive, Send

from mcp_adapter.transport.delayed import Delayed
from mcp_adapter.transport.event_stream import EventStream
from mcp_adapter.transport.message_context import MessageContext
from mcp_adapter.transport.replies import Reply, dumped, json_response, reply_to, request_in

LISTEN = "subscriptions/listen"

WATCH_SECONDS = 0.05
"""From a call's beginning to the first look whether its client is still connected. To close the
response is how a client cancels (MCP 2026-07-28); nearly every call is answered before."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that is to be served here, and what its envelope says."""

    call: JSONRPCRequest
    route: InboundModernRoute


class SingleExchange:
    """Serves such requests.

    Args:
        server: the MCP server.
        max_body_bytes: longest body of a request, as the gate declares it.
    """

    def __init__(self, server: Server[Any], *, max_body_bytes: int) -> None:
        self._server = server
        self._max_body_bytes = max_body_bytes

    async def admitted(self, request: Request, lifespan_state: object) -> Exchange | None:
        """The exchange of a request; None where the SDK's entry answers it.

        Args:
            request: behind a gate.
            lifespan_state: what the server's lifespan has yielded.
        """
        message, raw = request.state.mcp_message, request.scope["headers"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
        if (
            request.method != "POST"
            or not all(check_accept_headers(request))
            or int(headers.get("content-length", "0")) > self._max_body_bytes
            or (len(headers) < len(raw) and find_duplicated_routing_header(request.headers.items()))
            or (call := request_in(message)) is None
            or call.method == LISTEN
        ):
            return None
        route = classify_inbound_request(message, headers=headers)
        if isinstance(route, InboundLadderRejection):
            return None
        # Its last check, which may list the server's tools.
        if await _mcp_param_rejection(self._server, request, call, route, lifespan_state):
            return None
        return Exchange(call, route)

    async def serve(
        self,
        exchange: Exchange,
        request: Request,
        receive: Receive,
        send: Send,
        lifespan_state: object,
    ) -> None:
        """Serve a request, until it is answered or its client has left."""
        stream = EventStream(send)

        async def attend() -> None:
            async with stream.kept_alive():
                while (await receive())["type"] != "http.disconnect":
                    pass
            scope.cancel()

        with anyio.CancelScope() as scope:
            async with Delayed(WATCH_SECONDS, attend):
                reply = await self._reply(exchange, request, stream, lifespan_state)
            if not await stream.finish(reply):
                await json_response(dumped(reply), _status_of(reply))(request.scope, receive, send)

    async def _reply(
        self, exchange: Exchange, request: Request, stream: EventStream, lifespan_state: object
    ) -> Reply:
        call, route = exchange.call, exchange.route
        token = progress_token_from_params(call.params)
        served = serve_one(
            self._server,
            MessageContext.of(request, call.id, token, stream),
            call.method,
            call.params,
            connection=Connection.from_envelope(
                route.protocol_version, route.client_info, route.client_capabilities
            ),
            lifespan_state=lifespan_state,
        )
        return await reply_to(call.id, served)


def _status_of(reply: Reply) -> int:
    if isinstance(reply, JSONRPCError):
        return ERROR_CODE_HTTP_STATUS.get(reply.error.code, HTTPStatus.OK)
    return HTTPStatus.OK
