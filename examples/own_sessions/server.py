"""A server that keeps something in its sessions: the ids that it mints become authsvc's."""

from __future__ import annotations

import os
from collections import Counter

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from mcp_adapter import SessionGate, caller

mcp = MCPServer("own-sessions-example")
calls: Counter[str] = Counter()


@mcp.tool()
async def count(ctx: Context) -> str:
    """Return the caller and the number of calls in this session."""
    session_id = ctx.headers["mcp-session-id"] if ctx.headers else ""
    calls[session_id] += 1
    who = caller(ctx.request_context.request)
    return f"{who.subject}: {calls[session_id]}"


app = SessionGate(
    mcp.streamable_http_app(),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8004/mcp",
    authorization_servers=["https://idp.example"],
    stateful=True,
    streams=True,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8004")))
