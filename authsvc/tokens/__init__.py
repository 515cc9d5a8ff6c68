"""Verification: from the bytes that a client presented to a verdict.

VALID is a ``VerifiedToken``; INVALID and UNAVAILABLE are an ``AuthError`` by its reason.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from authsvc.domain.tokens import VerifiedToken


class TokenVerifier(Protocol):
    """Says whether a token is good for a resource, and whose it is."""

    def recall(self, token: str, *, resource: str, now: float) -> VerifiedToken | None:
        """Know ``token`` again from an earlier full check, at the cost of a digest.

        Args:
            token: as in ``verify``.
            resource: as in ``verify``.
            now: as in ``verify``.

        Returns:
            None when it is not known.

        Raises:
            AuthError: TOKEN_EXPIRED or another reason, when it is known and no longer good.
        """
        ...

    def stands(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """Whether what ``verify`` returned for that resource is good now, too.

        False, too, where that is not known any more: ``recall`` or ``verify`` tells.
        """
        ...

    async def verify(self, token: str, *, resource: str, now: float) -> VerifiedToken:
        """Check ``token`` in full, or know it again from an earlier full check.

        Args:
            token: the bare token, not empty.
            resource: the audience to demand, a canonical URI (RFC 8707).
            now: seconds since the epoch; ``exp`` and ``nbf`` are judged against it each time.

        Raises:
            AuthError: TOKEN_* when it is not good, KEYS_UNAVAILABLE when that cannot be told.
        """
        ...


def token_digest(token: str) -> bytes:
    """What is kept of a token: the SHA-256 of its bytes, 32 bytes.

    A verifier accepts one spelling of a token only, so that equal tokens have equal digests.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
