"""Header values count without the white space around them, whatever the HTTP server leaves."""

from __future__ import annotations

import httpx2
import pytest

from mcp_adapter import SessionGate
from mcp_adapter.gate.whitespace import trimmed
from mcp_adapter.transport.streamable import StreamableHttp
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    MODERN,
    RESOURCE,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    demo_app,
    demo_server,
    said,
)

pytestmark = pytest.mark.anyio

PADDED = {
    "MCP-Protocol-Version": f" {MODERN} ",
    "Mcp-Method": "\ttools/call ",
    "Mcp-Name": "  whoami\t ",
    "Authorization": " Bearer alice-1 ",
}


def by_hand(app: object, resolver: MemoryResolver) -> Endpoint:
    """Speaks ASGI to an app, with the headers as they are written down."""
    transport = httpx2.ASGITransport(app)  # type: ignore[arg-type]  # a callable of another alias
    http = httpx2.AsyncClient(
        transport=transport, base_url="http://localhost", timeout=DEADLINE_SECONDS
    )
    return Endpoint(http, resolver, Meeting())


async def test_the_reference_server(resolver: MemoryResolver) -> None:
    app = demo_app(resolver, Meeting())
    async with app.router.lifespan_context(app):
        endpoint = by_hand(app, resolver)
        params = {"name": "whoami", "arguments": {}}
        modern = await endpoint.modern(
            "tools/call", params, headers={**PADDED, "Host": " localhost ", "Origin": RESOURCE[:-4]}
        )
        session = await endpoint.open("alice-1")
        legacy = await endpoint.post(call("whoami"), session=f" {session} ", token="alice-1 ")

    assert said(modern) == said(legacy) == "alice"


async def test_the_gate_by_itself(resolver: MemoryResolver) -> None:
    endpoint = StreamableHttp(demo_server(Meeting()), max_body_bytes=10_000)
    gate = SessionGate(endpoint, resolver=resolver, resource=RESOURCE)
    async with endpoint.run():
        params = {"name": "whoami", "arguments": {}}
        response = await by_hand(gate, resolver).modern("tools/call", params, headers=PADDED)

    assert said(response) == "alice"


async def test_what_is_not_padded_stays_as_it_is() -> None:
    plain = {"type": "http", "headers": [(b"a", b"b c"), (b"d", b"")]}
    padded = {"type": "http", "path": "/x", "headers": [(b"a", b"\t b c "), (b"d", b" \xa0")]}

    assert trimmed(plain) is plain
    assert trimmed(padded) == {**padded, "headers": [(b"a", b"b c"), (b"d", b"\xa0")]}
