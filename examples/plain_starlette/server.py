"""MCP by hand, on Starlette alone: the gate has read the message, and knows who sent it."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mcp_adapter import SessionGate, caller

WHOAMI = {"name": "whoami", "inputSchema": {"type": "object", "properties": {}}}


async def mcp(request: Request) -> Response:
    message: dict[str, Any] = request.state.mcp_message
    if "id" not in message:
        return Response(status_code=202)
    match message:
        case {"method": "initialize"}:
            result: dict[str, Any] = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "plain-starlette-example", "version": "1"},
            }
        case {"method": "ping"}:
            result = {}
        case {"method": "tools/list"}:
            result = {"tools": [WHOAMI]}
        case {"method": "tools/call", "params": {"name": "whoami"}}:
            who = caller(request)
            text = f"{who.subject}: {', '.join(who.roles)}"
            result = {"content": [{"type": "text", "text": text}]}
        case _:
            error = {"code": -32601, "message": "There is no such method or tool."}
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error})
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})


async def healthz(request: Request) -> Response:
    return PlainTextResponse("alive\n")


app = SessionGate(
    Starlette(routes=[Route("/mcp", mcp, methods=["POST"]), Route("/healthz", healthz)]),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8003/mcp",
    authorization_servers=["https://idp.example"],
    open_paths=["/healthz"],
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8003")))
