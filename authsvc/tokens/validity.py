"""Checks of a token's claims: required ones, and its lifetime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.claims import numeric_date


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a token is valid, its issuer's leeway included; seconds since the epoch."""

    not_before: float
    expire_time: float

    def includes(self, now: float) -> bool:
        """Whether the token is valid now."""
        return self.not_before <= now < self.expire_time

    def check(self, now: float) -> None:
        """
        Raises:
            AuthError: TOKEN_EXPIRED or TOKEN_NOT_YET_VALID.
        """
        if now >= self.expire_time:
            raise AuthError(Reason.TOKEN_EXPIRED)
        if now < self.not_before:
            raise AuthError(Reason.TOKEN_NOT_YET_VALID)


def check_claims(
    claims: Mapping[str, object],
    *,
    required: Collection[str],
    leeway_seconds: float,
    now: float,
) -> Lifetime:
    """Check claims whose origin is verified.

    Args:
        claims: the claims.
        required: claims that must be present, beside ``exp``.
        leeway_seconds: how far the issuer's clock may deviate.
        now: seconds since the epoch.

    Raises:
        AuthError: TOKEN_CLAIM_MISSING, TOKEN_EXPIRED, TOKEN_NOT_YET_VALID or TOKEN_MALFORMED.
    """
    for name in required:
        if claims.get(name) is None:
            raise AuthError(Reason.TOKEN_CLAIM_MISSING, name)
    expire_time = numeric_date(claims, "exp")
    if expire_time is None:
        # Without ``exp``, a stolen token and its session would never end.
        raise AuthError(Reason.TOKEN_CLAIM_MISSING, "exp")
    # A token with a later ``iat`` is not valid yet either.
    begins = max(numeric_date(claims, "nbf") or 0.0, numeric_date(claims, "iat") or 0.0)
    lifetime = Lifetime(begins - leeway_seconds, expire_time + leeway_seconds)
    lifetime.check(now)
    return lifetime
