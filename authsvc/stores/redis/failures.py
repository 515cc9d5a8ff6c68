"""What the client raises, and what the store raises in its place."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from authsvc.domain.errors import AuthError, Reason
from authsvc.net.failures import cause_of

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What the client raises when the server is unreachable or returns an error."""

CLOSED = "Connection closed by server."
"""The client's message where the server has ended a connection."""


_REFUSALS = (ResponseError, AuthenticationError, BusyLoadingError, MaxConnectionsError)
_NOT_CONNECTED = (ConnectionRefusedError, socket.gaierror, FileNotFoundError, ssl.SSLError)


def unavailable(detail: str, *, is_unanswered: bool = False) -> AuthError:
    """What every method of the store raises when it cannot do its work."""
    return AuthError(Reason.STORE_UNAVAILABLE, f"the store: {detail}", is_unanswered=is_unanswered)


def may_be_done(error: BaseException, *, in_cluster: bool) -> bool:
    """Whether a server may have done what it was asked to. Not where it has answered with an error,
    and not where no connection to it was made.

    Args:
        error: what the client raised.
        in_cluster: whether the client may have asked another node before.
    """
    if in_cluster:
        return not isinstance(error, ResponseError) or isinstance(error, ClusterError)
    return not isinstance(error, _REFUSALS) and not any(
        isinstance(it, _NOT_CONNECTED) for it in _chain(error)
    )


def described(error: BaseException, *, tls: bool, has_answered: bool) -> str:
    """What an error means, with the setting that may mend it.

    Args:
        error: what the client raised; ``TimeoutError`` for no answer in time.
        tls: whether the connection is over TLS.
        has_answered: whether the server has answered before: then its settings are right.
    """
    is_closed = str(error) == CLOSED
    for below in _chain(error):
        if isinstance(below, ssl.SSLError):
            return f"{cause_of(below) or below} (store.ca_file, store.certificate_file)"
        is_closed = is_closed or isinstance(below, ConnectionResetError)
        if isinstance(below, FileNotFoundError) and tls:
            return "a file of store.ca_file, store.certificate_file or store.key_file is missing"
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        text = "no answer in time"
        # A server that waits for the end of a line takes a TLS handshake for its beginning.
        hint = "does it speak TLS? If not, remove store.ca_file, and write redis:// in store.url"
        return text if has_answered or not tls else f"{text}, and none before: {hint}"
    if is_closed and not tls and not has_answered:
        remedy = "Then set store.ca_file, or write rediss:// in store.url"
        return f"{CLOSED} Does it expect TLS? {remedy}"
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it comes from."""
    below: BaseException | None = error
    while below is not None:
        yield below
        below = below.__cause__ or below.__context__
