"""A stream that has begun goes on after a revocation: the gateway bounds its duration."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.gateways.deployed import Configuration, manager_of
from tests.gateways.harness import Gateway, refusal, serving
from tests.mcp_adapter.harness import LEGACY, call, opened

pytestmark = pytest.mark.anyio


def ends_soon(configuration: Configuration) -> None:
    """The bound of the route, which is there, in a second."""
    (host,) = manager_of(configuration)["route_config"]["virtual_hosts"]
    bound = host["routes"][0]["route"]["max_stream_duration"]
    assert bound == {"max_stream_duration": "600s"}
    bound["max_stream_duration"] = "1s"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("streams")
    with serving("sdk-stateful", folder, change=ends_soon) as running:
        yield running


async def test_a_stream_ends_after_its_caller_was_revoked(gateway: Gateway) -> None:
    token = gateway.token()
    async with gateway.client() as client:
        session = await opened(client, token)
        headers = {
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {token}",
            "MCP-Protocol-Version": LEGACY,
            "Mcp-Session-Id": session,
        }
        held = call("hold", _meta={"progressToken": "t"})
        async with client.http.stream("POST", "/mcp", json=held, headers=headers) as answer:
            lines = answer.aiter_lines()
            while "notifications/progress" not in await anext(lines):
                pass
            async with gateway.authsvc.operated() as operator:
                await operator.revoke_session(session)
            again = await client.post(call("whoami"), session=session, token=token)
            assert refusal(again) == (404, "SESSION_NOT_FOUND")
            # Nothing releases the call: Envoy ends it.
            with pytest.raises(httpx2.RemoteProtocolError):
                async for _ in lines:
                    pass
