"""A FastAPI app with an MCP server below a prefix; its other routes are its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from mcp.server.mcpserver import Context, MCPServer

from mcp_adapter import SessionGate, caller

mcp = MCPServer("fastapi-mounted-example")


@mcp.tool()
async def whoami(ctx: Context) -> str:
    """Return the caller and its roles."""
    who = caller(ctx.request_context.request)
    return f"{who.subject}: {', '.join(who.roles)}"


mcp_app = mcp.streamable_http_app(stateless_http=True)
gate = SessionGate(
    mcp_app,
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8009/team/mcp",  # with the prefix
    authorization_servers=["https://idp.example"],
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the gate and start the MCP app: a mounted app gets no lifespan of the server's."""
    async with gate.running(), mcp_app.router.lifespan_context(mcp_app):
        yield


app = FastAPI(routes=gate.metadata_routes(), lifespan=lifespan)
app.mount("/team", gate)


@app.get("/healthz")
async def healthz() -> str:
    """Answer anybody: the gate is around what is mounted alone."""
    return "alive"


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8009")))
