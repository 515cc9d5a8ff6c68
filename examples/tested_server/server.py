"""A server whose answers depend on the caller. Its tests are in ``test_server.py``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from authsvc.client import Resolver
from mcp_adapter import Requirement, SessionGate, caller, default_requirement

RESOURCE = "http://127.0.0.1:8006/mcp"
NOTES = {"ada": ["call Charles"]}

mcp = MCPServer("tested-server-example")


@mcp.tool()
def notes(ctx: Context) -> str:
    """Return the caller's notes."""
    return ", ".join(NOTES.get(caller(ctx.request_context.request).subject, [])) or "none"


def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
    """The tool needs a scope; everything else is as by default."""
    if method == "tools/call" and params.get("name") == "notes":
        return Requirement(("notes.read",))
    return default_requirement(method, params)


def app(resolver: Resolver | str) -> SessionGate:
    """The server behind its gate; tests give it a resolver of their own."""
    return SessionGate(
        mcp.streamable_http_app(stateless_http=True),
        resolver=resolver,
        resource=RESOURCE,
        authorization_servers=["https://idp.example"],
        requirement=requirement,
        filter_lists=True,
    )


if __name__ == "__main__":
    authsvc = os.environ.get("AUTHSVC", "127.0.0.1:50051")
    uvicorn.run(app(authsvc), port=int(os.environ.get("PORT", "8006")))
