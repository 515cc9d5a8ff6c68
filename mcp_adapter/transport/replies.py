"""Answers to the requests of the handshake era, as they go over the wire."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from mcp.server.runner import modern_error_data
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse, RequestId

Reply = JSONRPCResponse | JSONRPCError


def dumped(message: Reply | JSONRPCNotification) -> dict[str, Any]:
    """A message as it goes over the wire, to be encoded as JSON."""
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


def encoded(content: object) -> str:
    """JSON on one line. Plain ASCII, which can also carry half of a surrogate pair."""
    return json.dumps(content, separators=(",", ":"))


async def reply_to(request_id: RequestId, call: Awaitable[dict[str, Any]]) -> Reply:
    """The outcome of a dispatched request. The message of an unknown exception is logged alone."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - the border: the SDK's function logs what it hides
        return JSONRPCError(jsonrpc="2.0", id=request_id, error=modern_error_data(error))
    return JSONRPCResponse(jsonrpc="2.0", id=request_id, result=result)
