"""Checks of a token's claims: required ones, and its lifetime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from authsvc.common.times import duration
from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.claims import numeric_date

JUST_OUTSIDE_SECONDS = 60.0
"""A token that is invalid by less may be so because two clocks differ."""


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
            raise _outside(Reason.TOKEN_EXPIRED, now - self.expire_time)
        if now < self.not_before:
            raise _outside(Reason.TOKEN_NOT_YET_VALID, self.not_before - now)


def _outside(reason: Reason, seconds: float) -> AuthError:
    """For a token that is that far outside its lifetime, the leeway included."""
    setting = "leeway_seconds" if seconds < JUST_OUTSIDE_SECONDS else ""
    when = "ago" if reason is Reason.TOKEN_EXPIRED else "from now"
    return AuthError(reason, f"{duration(seconds)} {when}, the leeway included", setting=setting)


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
            # ``exp`` is always required: without it, a stolen token and its session never end.
            setting = "" if name == "exp" else "required_claims"
            raise AuthError(Reason.TOKEN_CLAIM_MISSING, name, setting=setting)
    expire_time = numeric_date(claims, "exp")
    if expire_time is None:
        raise AuthError(Reason.TOKEN_CLAIM_MISSING, "exp")
    # A token with a later ``iat`` is not valid yet either.
    begins = max(numeric_date(claims, "nbf") or 0.0, numeric_date(claims, "iat") or 0.0)
    lifetime = Lifetime(begins - leeway_seconds, expire_time + leeway_seconds)
    lifetime.check(now)
    return lifetime
