"""A gate that is called without a server: each message of a request is the test's."""

from __future__ import annotations

import json
from collections.abc import Iterable

import anyio
from starlette.types import ASGIApp, Message

from mcp_adapter import SessionGate
from tests.mcp_adapter.harness import LEGACY, RESOURCE, MemoryResolver, demo_requirement
from tests.support.audited import Collected


def gated(
    app: ASGIApp,
    resolver: MemoryResolver,
    audit: Collected,
    *,
    stateful: bool = False,
    streams: bool = False,
) -> SessionGate:
    """A gate that is audited."""
    return SessionGate(
        app,
        resolver=resolver,
        resource=RESOURCE,
        requirement=demo_requirement,
        audit=audit,
        stateful=stateful,
        streams=streams,
    )


async def posted(
    gate: ASGIApp,
    body: object,
    *,
    method: str = "POST",
    token: str = "",
    session: str = "",
    version: str = LEGACY,
    events: Iterable[Message] = (),
    fails: bool = False,
) -> list[Message]:
    """What the gate sends as the answer to one request.

    Args:
        gate: gets the request.
        body: of the request, as JSON.
        method: HTTP's.
        token: that it presents; empty for none.
        session: that it is in; empty for none.
        version: of MCP.
        events: what the client does after the request.
        fails: whether the client has left when the answer comes.
    """
    headers = {
        "content-type": "application/json",
        "mcp-protocol-version": version,
        **({"authorization": f"Bearer {token}"} if token else {}),
        **({"mcp-session-id": session} if session else {}),
    }
    scope = {
        "type": "http",
        "method": method,
        "path": "/mcp",
        "root_path": "",
        "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    received = iter(
        [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}, *events]
    )
    sent: list[Message] = []

    async def receive() -> Message:
        if (message := next(received, None)) is None:
            await anyio.sleep_forever()
        assert message is not None
        return dict(message)

    async def send(message: Message) -> None:
        if fails:
            raise OSError("the client has left")
        sent.append(message)

    await gate(scope, receive, send)
    return sent
