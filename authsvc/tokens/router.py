"""Which verifier checks a token: the one for keys, or the one that introspects."""

from __future__ import annotations

from authsvc.domain.errors import AuthError
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.tokens import TokenVerifier
from authsvc.tokens.compact import MAX_TOKEN_BYTES, unverified_claims
from authsvc.tokens.introspection_answers import same_issuer


class TokenRouter:
    """A ``TokenVerifier`` that gives each token to one of two.

    A token of three segments has the shape of a JWT. Where such tokens of one issuer are
    introspected, those that name it are, and those that name no issuer; those that name another go
    by keys, whether or not that issuer is known. What is read of a token for this is not verified,
    and decides nothing else: introspection yields principals of its own issuer alone.

    Args:
        jwt: for tokens in the shape of a JWT.
        opaque: for the others.
        introspects_jwts_of: claim ``iss`` of the issuer whose tokens go to ``opaque`` in any shape;
            empty for none.
    """

    def __init__(
        self, jwt: TokenVerifier, opaque: TokenVerifier, *, introspects_jwts_of: str = ""
    ) -> None:
        self._jwt = jwt
        self._opaque = opaque
        self._issuer = introspects_jwts_of

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``."""
        if token.text.count(".") != 2:
            return self._opaque.cached(token, resource=resource, now=now)
        cached = self._jwt.cached(token, resource=resource, now=now)
        if cached is None and self._issuer:
            # Each has cached only what it was given.
            cached = self._opaque.cached(token, resource=resource, now=now)
        return cached

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        jwt, opaque = self._jwt, self._opaque
        return jwt.is_valid(token, resource=resource, now=now) or opaque.is_valid(
            token, resource=resource, now=now
        )

    def needs_keys_alone(self, token: BearerToken) -> bool:
        """See ``TokenVerifier.needs_keys_alone``."""
        return self._verifier(token).needs_keys_alone(token)

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``."""
        return await self._verifier(token).verify(token, resource=resource, now=now)

    def _verifier(self, token: BearerToken) -> TokenVerifier:
        if token.text.count(".") != 2:
            return self._opaque
        if self._issuer and names_no_other_issuer(token.text, self._issuer):
            return self._opaque
        return self._jwt


def names_no_other_issuer(token: str, issuer: str) -> bool:
    """Whether a token in the shape of a JWT names this issuer, or none.

    Args:
        token: three segments, not verified.
        issuer: a claim ``iss``.
    """
    if len(token) > MAX_TOKEN_BYTES:
        return True  # each verifier rejects it
    try:
        named = unverified_claims(token).get("iss")
    except AuthError:
        return True
    return not named or same_issuer(named, issuer)
