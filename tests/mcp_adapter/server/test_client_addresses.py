"""The address of a client, by what trusted proxies report of it."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from authsvc.net.peers import Peers
from mcp_adapter.server.client_addresses import ClientAddresses

pytestmark = pytest.mark.anyio

PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "reported", "client"),
    [
        (PROXY, [CLIENT], CLIENT),
        (PROXY, ["2001:db8::1"], "2001:db8::1"),
        (PROXY, [f"198.51.100.9, {CLIENT} , 10.0.0.2"], CLIENT),
        (PROXY, ["198.51.100.9", CLIENT], CLIENT),
        # What is not certain is not guessed: the connection's address is left.
        (PROXY, [], PROXY),
        (PROXY, ["10.0.0.2"], PROXY),
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [f"{CLIENT}:80"], PROXY),
        # A client says it of itself.
        ("198.51.100.9", [CLIENT], "198.51.100.9"),
    ],
)
async def test_a_proxys_word_counts(peer: str, reported: list[str], client: str) -> None:
    scope: Scope = {
        "type": "http",
        "client": (peer, 4711),
        "headers": [(b"x-forwarded-for", it.encode()) for it in reported],
    }
    assert (await seen(scope))["client"][0] == client
    assert scope["client"] == (peer, 4711)


async def test_other_connections_are_passed_on() -> None:
    assert await seen({"type": "lifespan"}) == {"type": "lifespan"}


async def seen(scope: Scope) -> Scope:
    """The scope as the app gets it."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    proxies = Peers(["10.0.0.0/8"])
    await ClientAddresses(app, header="x-forwarded-for", proxies=proxies)(scope, receive, send)
    return scopes[0]
