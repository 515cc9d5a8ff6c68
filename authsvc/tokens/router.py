"""Which verifier checks a token: JWTs and opaque tokens have one each."""

from __future__ import annotations

from authsvc.domain.tokens import BearerToken, VerifiedToken
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

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``."""
        return self._verifier(token).cached(token, resource=resource, now=now)

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        jwt, opaque = self._jwt, self._opaque
        return jwt.is_valid(token, resource=resource, now=now) or opaque.is_valid(
            token, resource=resource, now=now
        )

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``."""
        return await self._verifier(token).verify(token, resource=resource, now=now)

    def _verifier(self, token: BearerToken) -> TokenVerifier:
        return self._jwt if token.text.count(".") == 2 else self._opaque
