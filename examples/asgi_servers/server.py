"""One app for any ASGI server, in one process or in several: the page has the command lines."""

from __future__ import annotations

import os
from typing import Annotated

from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from mcp.server.request_state import RequestStateSecurity
from pydantic import BaseModel

from mcp_adapter import SessionGate, caller, with_origin_checks

RESOURCE = "http://127.0.0.1:8010/mcp"

# The same in each process. Without it each makes a key of its own.
key = os.environ.get("REQUEST_STATE_KEY")
mcp = MCPServer(
    "asgi-servers-example",
    request_state_security=RequestStateSecurity(keys=[key]) if key else None,
)


class Size(BaseModel):
    """What the user is asked for."""

    size: str


async def ask_size() -> Elicit[Size]:
    """Ask the user: in 2026-07-28 the client calls again, and any process may get that call."""
    return Elicit("Which size?", Size)


@mcp.tool()
async def whoami(ctx: Context) -> str:
    """Return the caller and its roles."""
    await ctx.report_progress(1, 2)
    who = caller(ctx.request_context.request)
    return f"{who.subject}: {', '.join(who.roles)}"


@mcp.tool()
async def order(size: Annotated[Size, Resolve(ask_size)]) -> str:
    """Return what the user chose, and the process that was told."""
    return f"{size.size} in process {os.getpid()}"


gate = SessionGate(
    mcp.streamable_http_app(stateless_http=True),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource=RESOURCE,
    authorization_servers=["https://idp.example"],
)
app = with_origin_checks(gate, resource=RESOURCE)
