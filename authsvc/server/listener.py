"""The gRPC listener: limits of its connections, its address and its certificates."""

from __future__ import annotations

import grpc
from grpc import aio

from authsvc.common.listening import address_of, bound
from authsvc.common.settings import ConfigError
from authsvc.net.addresses import split, with_port
from authsvc.net.descriptors import room_for
from authsvc.net.tls import ServerCertificates
from authsvc.server.config import Settings, TlsSettings
from authsvc.server.tls_files import check_readable

MAX_PENDING_CALLS = 10_000
"""Calls that wait to be accepted, of all connections. Further ones are cancelled."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""Longest request."""

MAX_CHECK_BYTES = 4 * 1024 * 1024 + 256 * 1024
"""Longest request where gateways are served: the longest body that ``SessionGate`` reads by
default, and the headers, of which Envoy takes 60 KiB at most."""

_SERVER_OPTIONS = (
    # A peer has 10 s to send the first frame of HTTP/2 (TLS included), as long to acknowledge our
    # settings, and as long to answer a ping. gRPC would wait for 120 s, 60 s and 60 s, and for
    # two hours before it pings.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Once 1,000 calls wait to be accepted, gRPC would end calls at random. Streams bound them.
    ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
    # Clients ping idle connections every 15 seconds.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


def new_server(settings: Settings, *, shares_port: bool) -> aio.Server:
    """A server that does not listen yet.

    Args:
        settings: bound its connections and calls.
        shares_port: whether other workers listen on the same port.
    """
    return aio.server(options=_options(settings, shares_port=shares_port))


def max_waiting_calls(settings: Settings) -> int:
    """How many calls may wait for their request, their callers not identified.

    Each may hold a whole request but for its last byte. Where requests may be longer, fewer calls
    may wait, so that all of them together hold no more.
    """
    calls = settings.limits.max_unauthenticated_calls
    return max(1, calls * MAX_MESSAGE_BYTES // _longest_request(settings))


def listen(server: aio.Server, settings: Settings, *, shares_port: bool) -> str:
    """Have a server listen, on TLS where ``[tls]`` is set.

    Args:
        server: a server.
        settings: of authsvc.
        shares_port: whether other workers listen on the same port.

    Returns:
        The address, its real port included.

    Raises:
        ConfigError: the address is taken, or a file of ``[tls]`` cannot be used.
    """
    credentials = server_credentials(settings.tls)
    return listen_at(server, settings.listen, credentials, shares_port=shares_port)


def listen_at(
    server: aio.Server,
    address: str,
    credentials: grpc.ServerCredentials | None,
    *,
    shares_port: bool = False,
) -> str:
    """As ``listen``.

    gRPC itself would listen on those addresses of a name that are free, and where ``[::]`` is not,
    on IPv4 alone.
    """
    if address.startswith("unix:"):
        _add(server, address, credentials)
        return address
    with bound(address, shares_port=shares_port) as sockets:
        found = list(map(address_of, sockets))
    if len(found) == 1:
        # Where any port will do, gRPC finds one: the one found here may be taken by now.
        found = [with_port(found[0], split(address)[1])]
    ports = [_add(server, it, credentials) for it in found]
    return with_port(address, ports[0])


def _add(server: aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Have a server listen on one address; the port."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConfigError(f"listen: {address} cannot be listened on; is it taken?") from None


def server_credentials(settings: TlsSettings | None) -> grpc.ServerCredentials | None:
    """The credentials of a listener with TLS; None without ``[tls]``.

    Raises:
        ConfigError: files cannot be used: one line for each.
    """
    if settings is None:
        return None
    check_readable(settings)
    certificates = ServerCertificates(
        settings.certificate_file, settings.key_file, settings.client_ca_file
    )
    try:
        return certificates.credentials()
    except (OSError, ValueError) as error:
        raise ConfigError(f"tls: {error}") from None


def _longest_request(settings: Settings) -> int:
    return MAX_MESSAGE_BYTES if settings.ext_authz is None else MAX_CHECK_BYTES


def _options(settings: Settings, *, shares_port: bool) -> list[tuple[str, int]]:
    # Two servers on one port would share its connections at random. Without workers, a port that is
    # in use is therefore an error.
    streams = settings.limits.max_concurrent_streams_per_connection
    options = [
        *_SERVER_OPTIONS,
        ("grpc.max_receive_message_length", _longest_request(settings)),
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_allowed_incoming_connections", room_for(settings.limits.max_connections)),
        ("grpc.max_concurrent_streams", streams),
        # gRPC frees an answered call a moment after its client may begin the next one. Without room
        # for these, it would refuse calls of clients that keep within the limit.
        ("grpc.http2.max_deallocating_streams", streams),
    ]
    if settings.max_connection_idle_seconds:
        options.append(
            ("grpc.max_connection_idle_ms", round(1000 * settings.max_connection_idle_seconds))
        )
    if settings.max_connection_age_seconds:
        # gRPC varies it by 10 % in both directions, so that clients do not reconnect together.
        options += [
            ("grpc.max_connection_age_ms", round(1000 * settings.max_connection_age_seconds)),
            ("grpc.max_connection_age_grace_ms", round(1000 * settings.grace_seconds)),
        ]
    return options
