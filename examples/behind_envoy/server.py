"""server.py: an MCP server that knows who is asking."""

import os
from typing import Any

import uvicorn
from assertions import Callers
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_http_request


def the_caller(scope: str = "") -> dict[str, Any]:
    """Who is asking. A tool refuses without a caller: not every way here leads through a check."""
    caller: dict[str, Any] | None = get_http_request().state.caller
    if caller is None:
        raise ToolError("This tool needs a caller.")
    if scope and scope not in caller["scope"].split():
        raise ToolError(f"This tool needs the scope {scope}.")
    return caller


mcp = FastMCP("behind-envoy")


@mcp.tool
async def whoami() -> str:
    """Who is asking."""
    caller = the_caller()
    # A subject is unique at its issuer: the key of a user is both, idp and sub.
    return f"{caller['sub']}: {', '.join(caller['roles'])}"


@mcp.tool
async def publish() -> str:
    """Publish the notes."""
    the_caller("notes.publish")
    return "published"


app = Callers(mcp.http_app(stateless_http=True))

if __name__ == "__main__":
    # On loopback: Envoy alone reaches it.
    uvicorn.run(app, port=int(os.environ.get("PORT", "3000")))
