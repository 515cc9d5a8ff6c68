"""A FastMCP server behind the gate. It is another resource than the other examples are."""

from __future__ import annotations

import os

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.dependencies import get_http_request

from mcp_adapter import SessionGate, caller
from mcp_adapter.fastmcp import requirement_of

mcp = FastMCP("fastmcp-example")


@mcp.tool
async def whoami() -> str:
    """Return the caller and its roles."""
    who = caller(get_http_request())
    return f"{who.subject}: {', '.join(who.roles)}"


@mcp.tool(auth=require_scopes("notes.write"))
async def note() -> str:
    """Answer callers whose token has the scope; the gate answers others with 403."""
    return "noted"


app = SessionGate(
    mcp.http_app(stateless_http=True),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8002/mcp",
    authorization_servers=["https://idp.example"],
    scopes=["notes.write"],
    requirement=requirement_of(mcp),
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8002")))
