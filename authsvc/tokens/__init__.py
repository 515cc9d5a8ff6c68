"""Verification of tokens: JWTs by their issuer's keys, opaque ones by introspection.

A valid token becomes a ``VerifiedToken``. For any other, or where that cannot be determined now, an
``AuthError`` is raised.
"""

from __future__ import annotations

from typing import Protocol

from authsvc.domain.tokens import BearerToken, VerifiedToken


class TokenVerifier(Protocol):
    """Verifies tokens for a resource."""

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """The result of an earlier full check of ``token``, at the cost of a digest.

        Args:
            token: as in ``verify``.
            resource: as in ``verify``.
            now: as in ``verify``.

        Returns:
            None when it is not cached.

        Raises:
            AuthError: TOKEN_EXPIRED or another reason, when it is cached and no longer valid.
        """
        ...

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """Whether what ``verify`` returned for that resource is valid now, too.

        False where it is not cached any more: ``cached`` or ``verify`` gives the verdict then.
        """
        ...

    def needs_keys_alone(self, token: BearerToken) -> bool:
        """Whether ``verify`` asks nobody about the token itself: it may be closed where it waits
        for keys, and begun anew."""
        ...

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """Check ``token`` in full, or take the result of an earlier full check.

        Args:
            token: the bare token, not empty.
            resource: the audience to demand, a canonical URI (RFC 8707).
            now: seconds since the epoch; ``exp`` and ``nbf`` are judged against it each time.

        Raises:
            AuthError: TOKEN_* when it is not valid, KEYS_UNAVAILABLE when that cannot be
                determined.
        """
        ...
