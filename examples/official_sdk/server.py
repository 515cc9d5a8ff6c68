"""An MCP server of the official SDK. Each call sees its own caller, not that of ``initialize``."""

from __future__ import annotations

import os

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from mcp_adapter import SessionGate, caller

mcp = MCPServer("official-sdk-example")


@mcp.tool()
async def whoami(ctx: Context) -> str:
    """Return the caller and its roles."""
    who = caller(ctx.request_context.request)
    return f"{who.subject}: {', '.join(who.roles)}"


app = SessionGate(
    mcp.streamable_http_app(stateless_http=True),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8001/mcp",
    authorization_servers=["https://idp.example"],
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8001")))
