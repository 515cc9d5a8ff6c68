"""Which verifier checks a token: JWTs and opaque tokens have one each."""

from __future__ import annotations

from authsvc.domain.tokens import VerifiedToken
from authsvc.tokens import TokenVerifier


class TokenRouter:
    """A ``TokenVerifier`` that gives JWTs to one verifier and everything else to another.

    A token of three segments is a JWT. Opaque tokens with two dots are therefore not supported.

    Args:
        jwt: for tokens of three segments.
        opaque: for the others.
    """

    def __init__(self, jwt: TokenVerifier, opaque: TokenVerifier) -> None:
        self._jwt = jwt
        self._opaque = opaque

    def recall(self, token: str, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.recall``."""
        return self._verifier(token).recall(token, resource=resource, now=now)

    def stands(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.stands``."""
        jwt, opaque = self._jwt, self._opaque
        return jwt.stands(token, resource=resource, now=now) or opaque.stands(
            token, resource=resource, now=now
        )

    async def verify(self, token: str, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``."""
        return await self._verifier(token).verify(token, resource=resource, now=now)

    def _verifier(self, token: str) -> TokenVerifier:
        return self._jwt if token.count(".") == 2 else self._opaque
