"""Requests and the answers to them, as they go over the wire."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

from mcp.server.runner import modern_error_data
from mcp_types import (
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from pydantic import ValidationError
from starlette.responses import Response

from mcp_adapter.transport.own_context import OwnContext

Reply = JSONRPCResponse | JSONRPCError


def dumped(message: Reply | JSONRPCNotification) -> dict[str, Any]:
    """A message as it goes over the wire, to be encoded as JSON."""
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


# Made once: `json.dumps` makes an encoder at each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def encoded(content: object) -> str:
    """JSON on one line. Plain ASCII, which can also carry half of a surrogate pair."""
    return _encode(content)


def json_response(content: object, status: int = HTTPStatus.OK) -> Response:
    """A response of JSON."""
    return Response(encoded(content), status, media_type="application/json")


def request_in(message: object) -> JSONRPCRequest | None:
    """The request that a parsed message is; None if it is another kind of message, or none."""
    try:
        return JSONRPCRequest.model_validate(message)
    except ValidationError:
        return None


async def reply_to(request_id: RequestId, call: Coroutine[Any, Any, dict[str, Any]]) -> Reply:
    """The outcome of a dispatched request. The message of an unknown exception is logged alone."""
    try:
        result = await OwnContext(call)
    except Exception as error:  # noqa: BLE001 - the border: the SDK's function logs what it hides
        return JSONRPCError(jsonrpc="2.0", id=request_id, error=modern_error_data(error))
    return JSONRPCResponse(jsonrpc="2.0", id=request_id, result=result)
