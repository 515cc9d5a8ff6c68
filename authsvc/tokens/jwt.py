"""Verification of JWTs (RFC 7519) by the best current practice (RFC 8725).

A token is parsed strictly. Its issuer determines the keys, and the key determines the algorithm. No
other claim is used before the signature is verified. Verified tokens are cached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.claims import ClaimMapping, kept_text, numeric_date, optional_text
from authsvc.tokens.compact import (
    MAX_TOKEN_BYTES,
    CompactJws,
    parse_claims,
    parse_jws,
    too_large,
)
from authsvc.tokens.issuer_names import IssuerNames
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.rejections import Rejections, end_of, is_final
from authsvc.tokens.sources import KeySource, table_of
from authsvc.tokens.validity import Lifetime, check_claims

_Key = tuple[bytes, str]
"""The token's digest, and the resource that it was presented at."""

CACHE_SIZE = 16384
"""How many verified tokens are cached, unless configured otherwise."""

TOKEN_BYTES = 10_000
"""Memory that one may take on average; with 32 buckets and 24 permissions it takes 7 KB. If they
take more, fewer are cached."""

_ENTRY_BYTES = 250
"""Memory of a cache entry beside its token: the lifetime, and the key that verified it."""

ACCESS_TOKEN_TYPES = ("", "jwt", "at+jwt")
"""Header ``typ`` of access tokens: absent, as RFC 7519 section 5.1, as RFC 9068 section 2.1. Others
(logout tokens, DPoP proofs) are signed with the same keys for other purposes."""

OTHER_PURPOSES = frozenset(
    {
        *("logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "id+jwt"),
        *("client-authentication+jwt", "oauth-authz-req+jwt", "kb+jwt", "rt+jwt"),
        *("id", "id_token", "refresh", "refresh_token"),
    }
)
"""Header ``typ`` of other tokens, which no setting makes access tokens."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted issuer of tokens.

    Attributes:
        issuer: claim ``iss``, exactly.
        keys: its verification keys.
        audiences: which of its tokens are for a resource.
        mapping: how its claims become a principal.
        leeway_seconds: how far its clock may deviate.
        required_claims: claims that its tokens must have, beside ``exp``.
        token_types: accepted header ``typ``, without regard to case or ``application/``; empty
            for those of access tokens.
    """

    issuer: str
    keys: KeySource
    mapping: ClaimMapping = field(default_factory=ClaimMapping)
    leeway_seconds: float = 30.0
    required_claims: tuple[str, ...] = ("exp", "iat")
    token_types: tuple[str, ...] = ()
    audiences: Audiences = field(default_factory=Audiences)

    def check_audience(self, claims: Mapping[str, object], resource: str) -> None:
        """Check that a token with these verified claims is for a resource.

        Raises:
            AuthError: TOKEN_AUDIENCE_MISMATCH, or another reason for malformed claims.
        """
        self.mapping.check_audience(self.audiences, claims, resource)

    @property
    def table(self) -> str:
        """The table of the configuration that its settings are in."""
        return table_of(self.issuer)

    def check_type(self, token_type: str) -> None:
        """Check that a ``typ``, in the form of ``CompactJws.token_type``, is accepted.

        Raises:
            AuthError: TOKEN_MALFORMED.
        """
        names = self.token_types or ACCESS_TOKEN_TYPES
        accepted = names
        if self.token_types:
            accepted = tuple(name.lower().removeprefix("application/") for name in names)
        is_other = token_type in OTHER_PURPOSES
        if token_type in accepted and not is_other:
            return
        shown = ", ".join(name or "none" for name in names)
        raise AuthError(
            Reason.TOKEN_MALFORMED,
            f"typ {token_type[:32]!r}, accepted: {shown}"
            f"{'; send the access token' if is_other else ''}",
            setting="" if is_other else "accepted_types",
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A verified token, and the key that verified it."""

    token: VerifiedToken
    lifetime: Lifetime
    source: KeySource
    key: VerificationKey

    def key_is_trusted(self, now: float) -> bool:
        """Whether the key is still one of the issuer's.

        Raises:
            AuthError: KEYS_UNAVAILABLE when the issuer's keys have been unavailable for too long.
        """
        current = self.source.current(now)
        return self.key in current.keys or self.key in current.previous


class JwtVerifier:
    """A ``TokenVerifier`` for tokens of known issuers. Belongs to one event loop.

    Args:
        issuers: the trusted issuers, each once.
        max_token_bytes: the longest token that is accepted.
        cache_size: how many verified tokens are cached, of ``TOKEN_BYTES`` each on average;
            those used least recently are evicted first. An entry has the digest and the claims of
            a token, not the token itself.
        introspected: claim ``iss`` of the issuer whose opaque tokens are introspected, for messages
            about its JWTs; empty for none.

    Raises:
        ValueError: an issuer is listed twice.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        cache_size: int = CACHE_SIZE,
        introspected: str = "",
    ) -> None:
        self._issuers: dict[str, Issuer] = {}
        for issuer in issuers:
            if issuer.issuer in self._issuers:
                raise ValueError(f"issuer {issuer.issuer!r} is listed twice")
            self._issuers[issuer.issuer] = issuer
        self._names = IssuerNames(self._issuers, introspected)
        self._max_token_bytes = max_token_bytes
        self._cache: LruCache[_Key, _Entry] = LruCache(
            cache_size, bytes_for(cache_size, TOKEN_BYTES)
        )
        self._rejections = Rejections()
        self.signature_checks = 0
        """How many signatures have been checked so far."""

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``."""
        if len(token.text) > self._max_token_bytes:
            # Checked before the digest is computed.
            raise too_large(self._max_token_bytes)
        return self._cached((token.digest, resource), now)

    def _cached(self, key: _Key, now: float) -> VerifiedToken | None:
        entry = self._cache.get(key)
        if entry is None:
            return None
        try:
            if not entry.key_is_trusted(now):
                # The issuer has withdrawn the key: the full check will reject the token.
                self._cache.discard(key)
                return None
            entry.lifetime.check(now)
        except AuthError as error:
            error.in_table(self._issuers[entry.token.principal.issuer].table)
            raise
        return entry.token

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        entry = self._cache.get((token.digest, resource))
        if entry is None or entry.token is not token or not entry.lifetime.includes(now):
            return False
        try:
            return entry.key_is_trusted(now)
        except AuthError:
            return False

    def needs_keys_alone(self, token: BearerToken) -> bool:
        """See ``TokenVerifier.needs_keys_alone``."""
        return True

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``."""
        # Checked before the digest is computed.
        if len(token.text) > self._max_token_bytes:
            raise too_large(self._max_token_bytes)
        key = (token.digest, resource)
        cached = self._cached(key, now)
        if cached is not None:
            return cached
        self._rejections.check(key, now)
        try:
            jws = parse_jws(token.text, max_bytes=self._max_token_bytes)
            claims = parse_claims(jws.payload)
            issuer = self._issuer(optional_text(claims, "iss"))
        except AuthError as error:
            self._rejections.put(key, error, now)
            raise
        before = _current(issuer.keys, now)
        try:
            entry = await self._checked(issuer, jws, claims, key, now)
        except AuthError as error:
            error.in_table(issuer.table)
            # Where the keys changed meanwhile, the verdict never holds.
            if before is not None and is_final(error, jws, before):
                until = end_of(claims, issuer.leeway_seconds)
                self._rejections.put(key, error, now, source=issuer.keys, keys=before, until=until)
            raise
        self._cache.put(key, entry, _ENTRY_BYTES + entry.token.memory_bytes())
        return entry.token

    async def refresh(self, now: float) -> bool:
        """Refresh the keys that are due; to be called every few seconds.

        Returns:
            Whether the keys of every issuer are available.
        """
        sources = [issuer.keys for issuer in self._issuers.values()]
        await asyncio.gather(*(source.refresh(now) for source in sources))
        try:
            for source in sources:
                source.current(now)
        except AuthError:
            return False
        return True

    def _issuer(self, name: str) -> Issuer:
        """
        Raises:
            AuthError: TOKEN_ISSUER_UNKNOWN.
        """
        issuer = self._issuers.get(name)
        if issuer is None:
            raise self._names.unknown(name)
        return issuer

    async def _checked(
        self, issuer: Issuer, jws: CompactJws, claims: Mapping[str, object], key: _Key, now: float
    ) -> _Entry:
        """A token of an issuer, once its signature and its claims are verified.

        Raises:
            AuthError: it is rejected; a setting is one of the issuer's.
        """
        digest, resource = key
        signing_key = await self._signing_key(issuer, jws, now)
        lifetime = check_claims(
            claims,
            required=issuer.required_claims,
            leeway_seconds=issuer.leeway_seconds,
            now=now,
        )
        issuer.check_audience(claims, resource)
        verified = VerifiedToken(
            digest=digest,
            principal=issuer.mapping.principal(claims, jws.payload),
            issue_time=numeric_date(claims, "iat") or 0.0,
            token_id=kept_text(claims, "jti"),
            provider_session=issuer.mapping.provider_session(claims),
        )
        return _Entry(verified, lifetime, issuer.keys, signing_key)

    async def _signing_key(self, issuer: Issuer, jws: CompactJws, now: float) -> VerificationKey:
        """The key that verifies the token's signature.

        Raises:
            AuthError: TOKEN_MALFORMED, TOKEN_ALGORITHM_REFUSED, TOKEN_KEY_UNKNOWN,
                TOKEN_SIGNATURE_INVALID or KEYS_UNAVAILABLE.
        """
        issuer.check_type(jws.token_type)
        tried = await candidates(issuer.keys, jws, now)
        found = self._first_that_verifies(tried, jws)
        if found is None:
            found = self._first_that_verifies(await replacements(issuer.keys, jws, tried, now), jws)
        if found is None:
            raise AuthError(Reason.TOKEN_SIGNATURE_INVALID)
        return found

    def _first_that_verifies(
        self, keys: Iterable[VerificationKey], jws: CompactJws
    ) -> VerificationKey | None:
        for key in keys:
            self.signature_checks += 1
            if key.verifies(jws.signing_input, jws.signature):
                return key
        return None


def _current(source: KeySource, now: float) -> KeySet | None:
    """The keys of a source; None where they are unavailable."""
    try:
        return source.current(now)
    except AuthError:
        return None


async def candidates(source: KeySource, jws: CompactJws, now: float) -> tuple[VerificationKey, ...]:
    """The keys that a token may be signed with. If there is none, the source is renewed once.

    Raises:
        AuthError: TOKEN_ALGORITHM_REFUSED, TOKEN_KEY_UNKNOWN or KEYS_UNAVAILABLE.
    """
    try:
        return source.current(now).candidates(jws.key_id, jws.algorithm)
    except AuthError as error:
        if error.reason is Reason.KEYS_UNAVAILABLE or not await source.renew(now):
            raise
    return source.current(now).candidates(jws.key_id, jws.algorithm)


async def replacements(
    source: KeySource, jws: CompactJws, tried: Sequence[VerificationKey], now: float
) -> Sequence[VerificationKey]:
    """Newer keys for a token whose signature is by none that were tried; empty where there are
    none. Looked for where no ``kid`` tells a key from the one that has replaced it.

    Args:
        source: where the keys come from.
        jws: the token.
        tried: the keys that it may have been signed with.
        now: seconds since the epoch.
    """
    if jws.key_id is not None and tried[0].kid is not None:
        return ()
    with suppress(AuthError):  # the keys that were tried stay in use
        if await source.renew(now):
            newer = source.current(now).candidates(jws.key_id, jws.algorithm)
            return [key for key in newer if key not in tried]
    return ()
