"""The address of a client behind proxies, as the app is to see it: for the audit."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.net.peers import Peers
from mcp_adapter.gate.origins import peer_of


class ClientAddresses:
    """An app whose requests are from their clients, not from proxies.

    Args:
        app: gets the requests.
        header: that proxies report a client's address in. A proxy that appends to what a client
            sent is understood, too: of several addresses, the last counts that is not a proxy's.
        proxies: whose header counts.
    """

    def __init__(self, app: ASGIApp, *, header: str, proxies: Peers) -> None:
        self._app = app
        self._header = header
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and self._proxies.include(peer_of(scope)):
            reported = ",".join(Headers(scope=scope).getlist(self._header)).split(",")
            if address := self._client_of(reported):
                scope = {**scope, "client": (address, 0)}
        await self._app(scope, receive, send)

    def _client_of(self, reported: list[str]) -> str:
        """The client of a chain of addresses; empty where it is not certain."""
        for text in reversed(reported):
            try:
                address = str(ipaddress.ip_address(text.strip()))
            except ValueError:
                return ""  # what precedes it may be the client's own
            if not self._proxies.include(address):
                return address
        return ""
