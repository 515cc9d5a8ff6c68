"""What the client raises, and what the store raises in its place."""

from __future__ import annotations

from redis.exceptions import RedisClusterException, RedisError

from authsvc.domain.errors import AuthError, Reason

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What the client raises when the server is unreachable or returns an error."""


def unavailable(detail: str) -> AuthError:
    """What every method of the store raises when it cannot do its work."""
    return AuthError(Reason.STORE_UNAVAILABLE, f"the store: {detail}")
