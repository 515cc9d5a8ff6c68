"""Opens every gRPC channel: none of them uses a proxy that the environment names.

gRPC honours ``http_proxy``, ``https_proxy`` and ``grpc_proxy`` for any address, loopback included,
and a proxy of that kind would see bearer tokens in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from grpc import aio

from authsvc.net.system_bundle import system_bundle

Option = tuple[str, str | int]

DIRECT: tuple[Option, ...] = (
    ("grpc.enable_http_proxy", 0),
    # GRPC_ADDRESS_HTTP_PROXY is a switch of its own: no address is among those it is for.
    ("grpc.address_http_proxy_enabled_addresses", ""),
)
"""Options of a channel that connects to its address itself."""


LASTING: tuple[Option, ...] = (
    # Detects a peer that is gone without closing; the server permits a ping each 10 seconds.
    ("grpc.keepalive_time_ms", 15_000),
    # gRPC waits for the answer to a ping for a minute, whatever grpc.keepalive_timeout_ms says.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection without a call is closed by the client, after one to two times as long. authsvc
    # would end it later (max_connection_idle_seconds), and a call that began then could fail.
    ("grpc.client_idle_timeout_ms", 20_000),
    # Reconnect soon after a restart of authsvc; the default backs off to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name, how long one attempt to connect may take at least, its handshakes included.
    ("grpc.min_reconnect_backoff_ms", 10_000),
)
"""Options of a client's long-lived channel."""


def open_channel(
    address: str,
    credentials: grpc.ChannelCredentials | None = None,
    options: Iterable[Option] = (),
) -> aio.Channel:
    """A channel that uses no proxy of the environment.

    Args:
        address: ``host:port`` or ``unix:/path``.
        credentials: None in the clear.
        options: further options of gRPC.
    """
    merged = (*options, *DIRECT)
    if credentials is None:
        return aio.insecure_channel(address, options=merged)
    return aio.secure_channel(address, credentials, options=merged)


def system_trust() -> grpc.ChannelCredentials:
    """Trust in the system's certificate authorities, in place of gRPC's own list."""
    return grpc.ssl_channel_credentials(system_bundle())
