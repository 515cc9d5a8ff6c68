"""An MCP server of one trivial tool, twice: behind the gate, and without it.

``python -m bench.apps AUTHSVC RESOURCE [CALLS FORMAT FILE]`` prints its address and serves until
its standard input closes. The gate audits calls where CALLS says so, to a file of a format.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.audit.calls import CallAudit
from authsvc.client import AuthClient
from bench import serving
from mcp_adapter import SessionGate
from mcp_adapter.gate.middleware import DEFAULT_MAX_BODY_BYTES
from mcp_adapter.transport.streamable import StreamableHttp

TOOL = "greet"

PATHS = {"gate": "/gate", "no gate": "/bare"}


class Ungated:
    """What is left of the gate without authorisation: it parses the message, once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one POST."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return parts.pop() if parts else await receive()

        state = {**scope.get("state", {}), "mcp_message": json.loads(body)}
        await self._app({**scope, "state": state}, again, send)


def greeting() -> Server[Any]:
    """An MCP server with one tool, which says hello."""

    async def list_tools(context: object, params: object) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {}}
        return types.ListToolsResult(tools=[types.Tool(name=TOOL, input_schema=schema)])

    async def call_tool(context: object, params: object) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(type="text", text="hello")])

    return Server("bench", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def build(authsvc: AuthClient, resource: str, audit: CallAudit | None = None) -> Starlette:
    """Both, by path."""
    ours = StreamableHttp(greeting(), max_body_bytes=DEFAULT_MAX_BODY_BYTES)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with authsvc, ours.run():
            yield

    return Starlette(
        routes=[
            Route(
                PATHS["gate"],
                SessionGate(ours, resolver=authsvc, resource=resource, audit=audit),
            ),
            Route(PATHS["no gate"], Ungated(ours)),
        ],
        lifespan=lifespan,
    )


def _audit(audited: list[str]) -> CallAudit | None:
    if not audited:
        return None
    calls, audit_format, file = audited
    # Checked there.
    return CallAudit(calls, format=audit_format, file=file)  # type: ignore[arg-type]


if __name__ == "__main__":
    target, resource, *audited = sys.argv[1:]
    # How long a call takes is a figure here, and never a failure.
    serving.run(build(AuthClient(target, deadline_seconds=30.0), resource, _audit(audited)))
