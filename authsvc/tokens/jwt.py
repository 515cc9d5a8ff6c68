"""Verification of JWTs (RFC 7519) by the best current practice (RFC 8725).

A token is parsed strictly, its issuer names the keys, the key names the algorithm, and only once
the signature has been proven is any other claim believed. What passed in full is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.tokens.claims import ClaimMapping, kept_text, numeric_date, optional_text
from authsvc.tokens.compact import MAX_TOKEN_BYTES, CompactJws, parse_claims, parse_jws
from authsvc.tokens.keys import VerificationKey
from authsvc.tokens.sources import KeySource
from authsvc.tokens.validity import Lifetime, check_claims

_Key = tuple[bytes, str]
"""The token's digest, and the resource that it was presented at."""

MEMO_SIZE = 16384
"""How many verified tokens are cached, unless configured otherwise."""

TOKEN_BYTES = 10_000
"""What they may take in memory, on average; with 32 buckets and 24 permissions one takes 7 KB.
Where they take more, fewer are cached."""

_KNOWN_BYTES = 250
"""What a verified token takes beside itself: when it is good, and whose key vouched for it."""

ACCESS_TOKEN_TYPES = ("", "jwt", "at+jwt")
"""Header ``typ`` of access tokens: absent, as RFC 7519 section 5.1, as RFC 9068 section 2.1. Others
(logout tokens, DPoP proofs) are signed with the same keys and mean something else."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer of tokens that is trusted.

    Attributes:
        issuer: claim ``iss``, exactly.
        keys: what it signs with, and where news of that come from.
        audiences: what ``aud`` may be, by resource; the resource itself where nothing is given.
        mapping: how its claims become a principal.
        leeway_seconds: how far its clock may be off.
        required_claims: what its tokens must say; ``exp`` is demanded in any case.
        token_types: accepted header ``typ``, without regard to case or ``application/``; empty
            for those of access tokens.
    """

    issuer: str
    keys: KeySource
    mapping: ClaimMapping = field(default_factory=ClaimMapping)
    leeway_seconds: float = 30.0
    required_claims: tuple[str, ...] = ("exp", "iat")
    token_types: tuple[str, ...] = ()
    audiences: Mapping[str, Collection[str]] = field(default_factory=dict)

    def accepts_type(self, token_type: str) -> bool:
        """Whether a token of this ``typ``, in the form of ``CompactJws``, may be one of its."""
        if not self.token_types:
            return token_type in ACCESS_TOKEN_TYPES
        return token_type in {
            name.lower().removeprefix("application/") for name in self.token_types
        }


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified, and the key that vouched for it."""

    token: VerifiedToken
    lifetime: Lifetime
    source: KeySource
    key: VerificationKey

    def vouched_for(self, now: float) -> bool:
        """Whether the issuer still stands by the key.

        Raises:
            AuthError: KEYS_UNAVAILABLE, when that has not been known for too long.
        """
        current = self.source.current(now)
        return self.key in current.keys or self.key in current.previous


class JwtVerifier:
    """A ``TokenVerifier`` for tokens of known issuers. Belongs to one event loop.

    Args:
        issuers: who is trusted; each named once.
        max_token_bytes: longest token that is looked at.
        memo_size: how many verified tokens are cached, of ``TOKEN_BYTES`` each on average;
            those used least recently are forgotten first. Of a token its digest and its claims are
            kept, never the token.

    Raises:
        ValueError: an issuer is there twice.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        memo_size: int = MEMO_SIZE,
    ) -> None:
        self._issuers: dict[str, Issuer] = {}
        for issuer in issuers:
            if issuer.issuer in self._issuers:
                raise ValueError(f"issuer {issuer.issuer!r} is there twice")
            self._issuers[issuer.issuer] = issuer
        self._max_token_bytes = max_token_bytes
        self._memo: LruCache[_Key, _Known] = LruCache(memo_size, bytes_for(memo_size, TOKEN_BYTES))
        self.signature_checks = 0
        """How many signatures have been checked so far."""

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``."""
        if len(token.text) > self._max_token_bytes:
            # Before it is digested: what is too large costs nothing.
            raise AuthError(Reason.TOKEN_TOO_LARGE, f"more than {self._max_token_bytes} bytes")
        return self._cached((token.digest, resource), now)

    def _cached(self, key: _Key, now: float) -> VerifiedToken | None:
        known = self._memo.get(key)
        if known is None:
            return None
        if not known.vouched_for(now):
            # Its issuer has withdrawn the key, so it has to prove itself anew, and will not.
            self._memo.discard(key)
            return None
        known.lifetime.check(now)
        return known.token

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        known = self._memo.get((token.digest, resource))
        if known is None or known.token is not token or not known.lifetime.includes(now):
            return False
        try:
            return known.vouched_for(now)
        except AuthError:
            return False

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``."""
        # What is too large is not digested.
        if len(token.text) > self._max_token_bytes:
            raise AuthError(Reason.TOKEN_TOO_LARGE, f"more than {self._max_token_bytes} bytes")
        key = (token.digest, resource)
        cached = self._cached(key, now)
        if cached is not None:
            return cached
        jws = parse_jws(token.text, max_bytes=self._max_token_bytes)
        claims = parse_claims(jws.payload)
        issuer, signing_key = await self._authenticate(jws, optional_text(claims, "iss"), now)
        lifetime = check_claims(
            claims,
            required=issuer.required_claims,
            audiences=issuer.audiences.get(resource, (resource,)),
            leeway_seconds=issuer.leeway_seconds,
            now=now,
        )
        verified = VerifiedToken(
            digest=key[0],
            principal=issuer.mapping.principal(claims, jws.payload),
            issue_time=numeric_date(claims, "iat") or 0.0,
            token_id=kept_text(claims, "jti"),
        )
        known = _Known(verified, lifetime, issuer.keys, signing_key)
        self._memo.put(key, known, _KNOWN_BYTES + verified.memory_bytes())
        return verified

    async def refresh(self, now: float) -> bool:
        """Bring keys up to date where that is due; to be called every few seconds.

        Returns:
            Whether the keys of every issuer are at hand.
        """
        sources = [issuer.keys for issuer in self._issuers.values()]
        await asyncio.gather(*(source.refresh(now) for source in sources))
        try:
            for source in sources:
                source.current(now)
        except AuthError:
            return False
        return True

    async def _authenticate(
        self, jws: CompactJws, name: str, now: float
    ) -> tuple[Issuer, VerificationKey]:
        """Prove that the issuer of that name, which the token claims, has signed it.

        Raises:
            AuthError: TOKEN_ISSUER_UNKNOWN, TOKEN_MALFORMED, TOKEN_ALGORITHM_REFUSED,
                TOKEN_KEY_UNKNOWN, TOKEN_SIGNATURE_INVALID or KEYS_UNAVAILABLE.
        """
        issuer = self._issuers.get(name)
        if issuer is None:
            raise AuthError(Reason.TOKEN_ISSUER_UNKNOWN, f"iss {name[:128]!r}")
        if not issuer.accepts_type(jws.token_type):
            raise AuthError(Reason.TOKEN_MALFORMED, f"typ {jws.token_type[:32]!r}")
        for key in await candidates(issuer.keys, jws, now):
            self.signature_checks += 1
            if key.verifies(jws.signing_input, jws.signature):
                return issuer, key
        raise AuthError(Reason.TOKEN_SIGNATURE_INVALID)


async def candidates(source: KeySource, jws: CompactJws, now: float) -> tuple[VerificationKey, ...]:
    """The keys that a token may have been signed with, fetched anew if its own is not there.

    Raises:
        AuthError: TOKEN_ALGORITHM_REFUSED, TOKEN_KEY_UNKNOWN or KEYS_UNAVAILABLE.
    """
    try:
        return source.current(now).candidates(jws.key_id, jws.algorithm)
    except AuthError as error:
        if error.reason is Reason.KEYS_UNAVAILABLE or not await source.renew(now):
            raise
    return source.current(now).candidates(jws.key_id, jws.algorithm)
