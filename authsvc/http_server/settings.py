"""Limits of the HTTP server: number, time and memory of connections, and size of heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table

DEFAULT_KEEP_ALIVE_SECONDS = 75.0


class ConnectionSettings(Table):
    """``[connections]``: limits of the HTTP server, for all clients together."""

    max_connections: PositiveInt = Field(
        default=10_000,
        description="Open connections. At the limit, a new one replaces the one that has been "
        "without a request for longest, or else the one whose body has been arriving for longest. "
        "Where every request is being processed, the new one gets 503. Lowered to what the process "
        "may open (RLIMIT_NOFILE, hard).",
    )
    max_connections_per_address: NonNegativeInt = Field(
        default=0,
        description="Open connections from one IPv4 address or one IPv6 /64; 0: no such limit. "
        "Leave it 0 behind a proxy, where all come from one address.",
    )
    header_timeout_seconds: PositiveFloat = Field(
        default=10.0,
        description="Time for the TLS handshake, and then for the head of a request. A new "
        "connection that sends nothing is closed after this time as well.",
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=60.0,
        description="Time for a whole request to arrive, body included. Responses have no time "
        "limit, streams included.",
    )
    write_timeout_seconds: PositiveFloat = Field(
        default=30.0,
        description="A client that reads less than 64 KiB of what waits for it in this time is "
        "disconnected.",
    )
    max_buffered_bytes: PositiveInt = Field(
        default=128 * 1024 * 1024,
        description="Requests in memory and unread responses, of all connections together. Above "
        "it, the connections that hold most are dropped, except those whose request is being "
        "processed.",
    )

    @rule
    def _limits_are_reached(self) -> Iterator[Fault]:
        yield from self.unreached("max_connections_per_address", "max_connections")
        yield from self.unreached("header_timeout_seconds", "request_timeout_seconds")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one HTTP server.

    Attributes:
        connections: as configured.
        keep_alive_seconds: how long a connection may be idle after a response.
        max_header_bytes: of a request: its first line and all headers together; also the bytes
            between chunks, and trailers.
        max_headers: headers of one request.
        max_pipelined: requests that may wait for the response to an earlier one.
    """

    connections: ConnectionSettings = field(default_factory=ConnectionSettings)
    keep_alive_seconds: float = DEFAULT_KEEP_ALIVE_SECONDS
    max_header_bytes: int = 32 * 1024
    max_headers: int = 128
    max_pipelined: int = 16
