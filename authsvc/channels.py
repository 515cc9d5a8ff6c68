"""Opens every gRPC channel of ours: none of them goes where the environment says.

gRPC honours ``http_proxy``, ``https_proxy`` and ``grpc_proxy`` for any address, loopback included,
and a proxy of that kind would see bearer tokens in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from grpc import aio

Option = tuple[str, str | int]

DIRECT: tuple[Option, ...] = (
    ("grpc.enable_http_proxy", 0),
    # GRPC_ADDRESS_HTTP_PROXY is a switch of its own: no address is among those it is for.
    ("grpc.address_http_proxy_enabled_addresses", ""),
)
"""Options of a channel that connects to its address itself."""


def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None = None,
    options: Iterable[Option] = (),
) -> aio.Channel:
    """A channel that no proxy of the environment sees.

    Args:
        address: ``host:port`` or ``unix:/path``.
        credentials: None in the clear.
        options: further options of gRPC.
    """
    merged = (*options, *DIRECT)
    if credentials is None:
        return aio.insecure_channel(address, options=merged)
    return aio.secure_channel(address, credentials, options=merged)
