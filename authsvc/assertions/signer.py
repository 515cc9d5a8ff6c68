"""Signs assertions, and serves them again while half of their life is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any

import jwt

from authsvc.assertions.claims import MAX_LIFETIME_SECONDS, claims_of
from authsvc.assertions.key_ring import KeyRing
from authsvc.assertions.keys import ALGORITHM, SigningKey
from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.resolution import Principal, Resolution

TOKEN_TYPE = "authsvc-assertion+jwt"  # noqa: S105 - not a password
"""Header ``typ``, so that no other JWT is taken for an assertion, and no assertion for another."""

MAX_CACHED_ASSERTIONS = 16_384

ASSERTION_BYTES = 10_000
"""What cached assertions may take in memory, on average, as if they shared their principals with no
other cache. Where they take more, fewer are cached."""

_OBJECTS_BYTES = 500

_Key = tuple[bytes, str, int, str]


@dataclass(frozen=True, slots=True)
class _Cached:
    """A signed assertion.

    Attributes:
        assertion: the JWT.
        principal: whose it is.
        kid: of the key that signed it.
        until: when less than half of its life is left.
    """

    assertion: str = field(repr=False)
    principal: Principal
    kid: str
    until: float

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate."""
        return _OBJECTS_BYTES + getsizeof(self.assertion) + self.principal.memory_bytes()


class AssertionCounts:
    """What an ``Assertions`` has done.

    Attributes:
        signed: number of signatures.
        cached: number of assertions that were served again.
    """

    def __init__(self) -> None:
        self.signed = 0
        self.cached = 0


class Assertions:
    """Makes the assertions of one service. Belongs to one event loop.

    Args:
        keys: sign.
        issuer: claim ``iss``.
        lifetime_seconds: the longest life of an assertion.
        clock: seconds since the epoch.
        max_cached: how many assertions are cached, of ``ASSERTION_BYTES`` each on average.
    """

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        lifetime_seconds: int = MAX_LIFETIME_SECONDS,
        clock: Callable[[], float],
        max_cached: int = MAX_CACHED_ASSERTIONS,
    ) -> None:
        self.keys = keys
        """Sign; they have to be refreshed."""
        self._issuer = issuer
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock
        self._cached: LruCache[_Key, _Cached] = LruCache(
            max_cached, bytes_for(max_cached, ASSERTION_BYTES)
        )
        self.counts = AssertionCounts()

    def jwks(self) -> bytes:
        """The JWK Set, as JSON; see ``KeyRing.jwks``."""
        return self.keys.jwks()

    def assertion(self, resolution: Resolution, *, resource: str, token_digest: bytes) -> str:
        """The assertion of one request, right after it was resolved.

        Args:
            resolution: of the request, with a principal.
            resource: canonical URI of the server that was asked: the audience.
            token_digest: SHA-256 of the request's token.

        Raises:
            AuthError: KEYS_UNAVAILABLE: there is no key; or as ``claims_of``.
            ValueError: the resolution has no principal.
        """
        principal, session = resolution.principal, resolution.session
        if principal is None or session is None:
            raise ValueError("a request without a principal has no assertion")
        now = self._clock()
        signing = self.keys.signing_key(now)
        key = (token_digest, session.id, session.revision, resource)
        cached = self._cached.get(key)
        if (
            cached is not None
            and now < cached.until
            and cached.kid == signing.kid
            # Introspection may answer otherwise for the same token.
            and (cached.principal is principal or cached.principal == principal)
        ):
            self.counts.cached += 1
            return cached.assertion
        claims = claims_of(
            principal,
            session,
            issuer=self._issuer,
            resource=resource,
            now=now,
            lifetime_seconds=self._lifetime_seconds,
        )
        assertion = _signed(claims, signing)
        self.counts.signed += 1
        issued, expires = claims["iat"], claims["exp"]
        made = _Cached(assertion, principal, signing.kid, (issued + expires) / 2)
        self._cached.put(key, made, made.memory_bytes())
        return assertion


def _signed(claims: dict[str, Any], key: SigningKey) -> str:
    headers = {"typ": TOKEN_TYPE, "kid": key.kid}
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers=headers)
