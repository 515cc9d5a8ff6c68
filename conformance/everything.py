"""The MCP server that the suite expects: tools, resources and prompts of the names it asks for.

The suite's descriptions of its scenarios define what each of them does. It is a server of the
official SDK without any code of ours, so that the results are about the adapter.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import mcp_types as types
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from conformance import prompts, resources
from conformance.tools import TOOLS, Context, Result

NAME = "conformance"


def everything_server() -> Server[Any]:
    """A new one."""
    bus = InMemorySubscriptionBus()

    @asynccontextmanager
    async def lifespan(server: Server[Any]) -> AsyncIterator[InMemorySubscriptionBus]:
        yield bus

    with warnings.catch_warnings():
        # Deprecated as of 2026-07-28, and asked for by the scenarios of 2025-11-25.
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        server: Server[Any] = Server(
            NAME,
            version="1",
            lifespan=lifespan,
            cache_hints={method: CacheHint(ttl_ms=1000) for method in get_args(CacheableMethod)},
            on_list_tools=_list_tools,
            on_call_tool=_call_tool,
            on_list_resources=resources.list_resources,
            on_list_resource_templates=resources.list_templates,
            on_read_resource=resources.read,
            on_subscribe_resource=resources.subscribe,
            on_unsubscribe_resource=resources.unsubscribe,
            on_list_prompts=prompts.list_prompts,
            on_get_prompt=prompts.get,
            on_completion=prompts.complete,
            on_set_logging_level=_set_logging_level,
            on_subscriptions_listen=ListenHandler(bus),
        )
    state = RequestStateSecurity.ephemeral()
    server.middleware.append(RequestStateBoundary(state, default_audience=NAME))
    return server


async def _list_tools(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name, description=fixture.description, input_schema=dict(fixture.schema)
            )
            for name, fixture in TOOLS.items()
        ]
    )


async def _call_tool(ctx: Context, params: types.CallToolRequestParams) -> Result:
    if params.name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, "There is no such tool.")
    return await TOOLS[params.name].run(ctx, params)


async def _set_logging_level(
    ctx: Context, params: types.SetLevelRequestParams
) -> types.EmptyResult:
    return types.EmptyResult()
