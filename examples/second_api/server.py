"""A tool that calls a second API, with another OAuth server, on behalf of its caller."""

from __future__ import annotations

import os

import httpx2
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from authsvc.client import AuthError
from mcp_adapter import NoCredentialsError, SessionGate, api_client, caller

API = os.environ.get("NOTES_API", "http://127.0.0.1:8100/v1")

mcp = MCPServer("second-api-example")


@mcp.tool()
async def whoami(ctx: Context) -> str:
    """Return the caller. No token of the API is asked for."""
    return caller(ctx.request_context.request).subject


@mcp.tool()
async def notes(ctx: Context) -> list[str]:
    """List the caller's notes, which the second API has."""
    who = caller(ctx.request_context.request)
    try:
        async with api_client(who, "notes-api", base_url=API) as http:
            answer = await http.get("/notes")
            answer.raise_for_status()
            return [str(it) for it in answer.json()]
    except NoCredentialsError:
        raise ToolError("Your token does not come with access to the notes.") from None
    except AuthError as error:
        raise ToolError(error.message) from None
    except httpx2.HTTPError as error:
        raise ToolError(f"The notes are unavailable: {type(error).__name__}.") from None


app = SessionGate(
    mcp.streamable_http_app(stateless_http=True),
    resolver=os.environ.get("AUTHSVC", "127.0.0.1:50051"),
    resource="http://127.0.0.1:8012/mcp",
    authorization_servers=["https://idp.example"],
    credentials="on_demand",
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8012")))
