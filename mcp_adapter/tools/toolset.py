"""Tools as an MCP server: listing, calls and challenges, all from their declarations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from authsvc import __version__
from authsvc.http_auth.requirements import Requirement, default_requirement
from mcp_adapter.gate.identity import caller
from mcp_adapter.tools.call import Call
from mcp_adapter.tools.declaration import Tool
from mcp_adapter.tools.loading import selected
from mcp_adapter.tools.s3 import S3Clients
from mcp_adapter.tools.settings import S3Settings, ToolsSettings

INSTRUCTIONS = (
    "Buckets and objects that the caller's own token permits. Start with discover_buckets, or with "
    "whoami; every tool needs an access token and answers for that token alone."
)


class Toolset:
    """Some tools as an MCP server, to be entered for as long as it serves.

    Args:
        tools: each under a name of its own.
        s3: where the buckets are.
    """

    def __init__(self, tools: Iterable[Tool], s3: S3Settings) -> None:
        self._tools = {item.name: item for item in tools}
        self._s3 = S3Clients(endpoint_url=s3.endpoint_url, region=s3.region)

    @classmethod
    def default(cls, s3: S3Settings, tools: ToolsSettings | None = None) -> Self:
        """The tools that settings ask for.

        Raises:
            ConfigError: as ``loading.selected``.
        """
        return cls(selected(tools or ToolsSettings()), s3)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._s3.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools."""
        return tuple(self._tools)

    @property
    def scopes(self) -> tuple[str, ...]:
        """All scopes that any tool needs, sorted."""
        needed = (item.requirement.scopes for item in self._tools.values())
        return tuple(sorted({scope for scopes in needed for scope in scopes}))

    @property
    def audited_arguments(self) -> dict[str, tuple[str, ...]]:
        """By tool, the arguments that are in the audit of its calls."""
        return {name: item.audited_arguments for name, item in self._tools.items()}

    def requirement(self, method: str, params: Mapping[str, Any]) -> Requirement | None:
        """What a request needs, for the gate."""
        name = params.get("name")
        if method == "tools/call" and isinstance(name, str) and name in self._tools:
            return self._tools[name].requirement
        return default_requirement(method, params)

    def server(self) -> Server[Any]:
        """The MCP server."""
        return Server(
            "mcp-adapter",
            title="Buckets behind authsvc",
            version=__version__,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            get_tool_input_schema=self._input_schema,
        )

    async def _list(
        self, ctx: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[item.listed for item in self._tools.values()])

    async def _call(
        self, ctx: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        found = self._tools.get(params.name)
        if found is None:
            raise MCPError(INVALID_PARAMS, "There is no such tool.")
        return await found.run(self._call_of(ctx), params.arguments or {})

    def _call_of(self, ctx: ServerRequestContext[Any]) -> Call:
        """The call, from the very request that asks for it.

        Raises:
            MCPError: the request carries no identity, so no gate has let it in.
        """
        try:
            principal = caller(ctx.request)
        except LookupError:
            raise MCPError(INTERNAL_ERROR, "The request carries no identity.") from None
        return Call(principal, self._s3, ctx.session.report_progress)

    def _input_schema(self, name: str) -> Mapping[str, Any] | None:
        found = self._tools.get(name)
        return found.listed.input_schema if found else None
