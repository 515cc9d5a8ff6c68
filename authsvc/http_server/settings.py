"""How many connections there may be, and how long each may take."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from authsvc.common.settings import Table

DEFAULT_KEEP_ALIVE_SECONDS = 75.0


class ConnectionSettings(Table):
    """``[connections]``: limits of the HTTP server, for all clients together."""

    max_connections: PositiveInt = Field(
        default=10_000,
        description="Open at once. At the limit, a new one takes the place of the one that has "
        "been without a request for longest, or else whose body has been arriving for longest; "
        "where all are being answered, it is answered 503. Lowered to what the process may open "
        "(RLIMIT_NOFILE, hard).",
    )
    max_connections_per_address: NonNegativeInt = Field(
        default=0,
        description="Open at once from one IPv4 address or one IPv6 /64; 0: no such limit. "
        "Leave it 0 behind a proxy, where all come from one address.",
    )
    header_timeout_seconds: PositiveFloat = Field(
        default=10.0,
        description="How long TLS, and then the head of a request, may take to arrive; a new "
        "connection without a byte is closed after this time as well.",
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=60.0,
        description="How long a whole request may take to arrive, body included. Answers may take "
        "as long as they need, streams among them.",
    )
    write_timeout_seconds: PositiveFloat = Field(
        default=30.0,
        description="A client that reads less than 64 KiB of what waits for it in this time is "
        "disconnected.",
    )
    max_buffered_bytes: PositiveInt = Field(
        default=128 * 1024 * 1024,
        description="Requests in memory and unread answers, of all connections together. Above it, "
        "those that hold most lose their connection, requests being answered excepted.",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one HTTP server.

    Attributes:
        connections: as configured.
        keep_alive_seconds: how long a connection may be without a request after an answer.
        max_header_bytes: all headers of a request, its first line included; and what comes
            between chunks or after them.
        max_headers: how many headers a request may have.
        max_pipelined: requests that may wait for the answer to an earlier one.
    """

    connections: ConnectionSettings = field(default_factory=ConnectionSettings)
    keep_alive_seconds: float = DEFAULT_KEEP_ALIVE_SECONDS
    max_header_bytes: int = 32 * 1024
    max_headers: int = 128
    max_pipelined: int = 16
