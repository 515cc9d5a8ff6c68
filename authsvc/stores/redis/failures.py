"""What the client raises, and what the store raises in its place."""

from __future__ import annotations

import ssl

from redis.exceptions import RedisClusterException, RedisError

from authsvc.domain.errors import AuthError, Reason
from authsvc.net.failures import cause_of

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What the client raises when the server is unreachable or returns an error."""

CLOSED = "Connection closed by server."
"""The client's message where the server has ended a connection."""


def unavailable(detail: str) -> AuthError:
    """What every method of the store raises when it cannot do its work."""
    return AuthError(Reason.STORE_UNAVAILABLE, f"the store: {detail}")


def described(error: BaseException, *, tls: bool, has_answered: bool) -> str:
    """What an error means, with the setting that may mend it.

    Args:
        error: what the client raised; ``TimeoutError`` for no answer in time.
        tls: whether the connection is over TLS.
        has_answered: whether the server has answered before: then its settings are right.
    """
    below: BaseException | None = error
    is_closed = str(error) == CLOSED
    while below is not None:
        if isinstance(below, ssl.SSLError):
            return f"{cause_of(below) or below} (store.ca_file, store.certificate_file)"
        is_closed = is_closed or isinstance(below, ConnectionResetError)
        if isinstance(below, FileNotFoundError) and tls:
            return "a file of store.ca_file, store.certificate_file or store.key_file is missing"
        below = below.__cause__ or below.__context__
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
