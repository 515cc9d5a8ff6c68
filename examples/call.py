"""Open a session without a token, then call a tool with one: python examples/call.py URL TOOL TOKEN

Prints what each of the two calls is answered: the one without a token, and the one with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator

import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

TIMEOUT_SECONDS = 120.0
"""Longest silence of a tool; the default of httpx2 is five seconds."""


class Token(httpx2.Auth):
    """Presents the token with each request, once there is one."""

    value = ""

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the header."""
        if self.value:
            request.headers["Authorization"] = f"Bearer {self.value}"
        yield request


async def main(url: str, tool: str, value: str) -> None:
    """Call ``tool`` at ``url`` twice."""
    token = Token()
    # trust_env=False: a proxy of the environment would see the token in the clear.
    async with (
        httpx2.AsyncClient(auth=token, timeout=TIMEOUT_SECONDS, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode="legacy") as client,
    ):
        for token.value in ("", value):
            try:
                answer = await client.call_tool(tool)
            except MCPError as error:
                lines = [f"refused: {error.error.message}"]
            else:
                lines = [
                    part.text for part in answer.content if isinstance(part, types.TextContent)
                ]
            print(*lines)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
