"""The official SDK's low-level server: handlers by hand, and scopes by a function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from mcp_adapter import Requirement, SessionGate, caller, default_requirement

EMPTY = {"type": "object", "properties": {}}
SCOPES = {"whoami": (), "note": ("notes.write",)}
"""What a call of each tool needs."""


async def list_tools(
    ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[types.Tool(name=name, input_schema=EMPTY) for name in SCOPES]
    )


async def call_tool(
    ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
) -> types.CallToolResult:
    who = caller(ctx.request)
    text = f"{who.subject}: {', '.join(who.roles)}"
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)])


def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """Ask for the scopes of the tool; a tool that is not listed needs a valid token."""
    if method == "tools/call":
        return Requirement(SCOPES.get(str(params.get("name")), ()))
    return default_requirement(method, params)


server = Server("low-level-example", on_list_tools=list_tools, on_call_tool=call_tool)
app = SessionGate(
    server.streamable_http_app(stateless_http=True),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8008/mcp",
    authorization_servers=["https://idp.example"],
    scopes=["notes.write"],
    requirement=requirement,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8008")))
