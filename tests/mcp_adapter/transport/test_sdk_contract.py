"""What is used of the SDK beyond its ``__all__`` is still there, and still does what we rely on.

When one of these fails after an update of ``mcp``, read ``mcp_adapter/transport/`` against the new
version.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp.server._streamable_http_modern as sdk_modern
import mcp.server.runner as sdk_runner
import pytest
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types import DEFAULT_NEGOTIATED_VERSION, ErrorData
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request

from authsvc.http_auth.eras import BATCH_VERSION, has_sessions
from mcp_adapter.transport.message_context import MessageContext

pytestmark = pytest.mark.anyio


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


async def test_signatures() -> None:
    assert parameters(sdk_runner.serve_one) == [
        "server",
        "dctx",
        "method",
        "params",
        "connection",
        "lifespan_state",
    ]
    assert parameters(sdk_runner.ServerRunner)[:3] == ["server", "connection", "lifespan_state"]
    assert parameters(sdk_runner.ServerRunner._on_notify) == ["self", "dctx", "method", "params"]
    assert parameters(Connection.from_envelope)[:3] == [
        "protocol_version",
        "client_info",
        "client_capabilities",
    ]
    assert parameters(sdk_modern._mcp_param_rejection) == [
        "app",
        "request",
        "req",
        "verdict",
        "lifespan_state",
    ]
    assert parameters(classify_inbound_request)[:2] == ["body", "headers"]
    assert {"stateless", "max_request_body_size"} <= set(parameters(StreamableHTTPSessionManager))


async def test_the_exchange_has_all_of_a_dispatch_context() -> None:
    wanted = {name for name in dir(DispatchContext) if not name.startswith("_")}

    context = MessageContext.of(Request({"type": "http", "headers": []}))

    assert {name for name in wanted if not hasattr(context, name)} == set()


async def test_revisions_fall_into_the_two_eras() -> None:
    assert all(map(has_sessions, HANDSHAKE_PROTOCOL_VERSIONS))
    assert not any(map(has_sessions, MODERN_PROTOCOL_VERSIONS))
    assert DEFAULT_NEGOTIATED_VERSION == BATCH_VERSION == "2025-03-26"


async def test_the_manager_tells_what_the_lifespan_yielded() -> None:
    entered = []

    @asynccontextmanager
    async def lifespan(server: Server[str]) -> AsyncIterator[str]:
        entered.append(server)
        yield "state"

    manager = StreamableHTTPSessionManager(Server("x", lifespan=lifespan), stateless=True)
    async with manager.run():
        assert manager._lifespan_state == "state"
    assert len(entered) == 1


async def test_errors_map_without_details() -> None:
    known = MCPError(code=-32602, message="not like that")

    assert sdk_runner.modern_error_data(known) == known.error
    assert sdk_runner.modern_error_data(RuntimeError("secret")) == ErrorData(
        code=-32603, message="Internal server error"
    )


async def test_the_entry_without_sessions_reads_as_it_was_read() -> None:
    """``single_exchange`` follows it check by check, and test_same_answers compares the two."""
    source = inspect.getsource(sdk_modern.handle_modern_request)
    checks = (
        *("validate_request(", 'request.method != "POST"', "check_accept_headers(", "json.loads("),
        *("_is_notification_shaped(", "JSONRPCRequest.model_validate(", '"subscriptions/listen"'),
        *("find_duplicated_routing_header(", "classify_inbound_request(", "_mcp_param_rejection("),
    )
    places = [source.find(check) for check in checks]

    assert -1 not in places
    assert places == sorted(places)
    assert ERROR_CODE_HTTP_STATUS[-32601] == 404


@pytest.mark.parametrize(("token", "found"), [("p", "p"), (3, 3), (True, None), ([], None)])
async def test_progress_tokens(token: object, found: object) -> None:
    assert progress_token_from_params({"_meta": {"progressToken": token}}) == found


async def test_accept() -> None:
    headers = [(b"accept", b"application/json, text/event-stream")]

    assert check_accept_headers(Request({"type": "http", "headers": headers})) == (True, True)
    assert check_accept_headers(Request({"type": "http", "headers": []})) == (False, False)
