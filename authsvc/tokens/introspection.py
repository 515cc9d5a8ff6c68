"""Verification of opaque tokens by introspection at their issuer (RFC 7662)."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from authsvc.common.lru import LruCache
from authsvc.common.secret_file import SecretFileError
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Secret
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.net.basic import basic_authorization
from authsvc.net.fetching import Fetcher, FetchError, check_url
from authsvc.tokens.claims import ClaimMapping, kept_text, numeric_date, optional_text
from authsvc.tokens.compact import MAX_TOKEN_BYTES, parse_json_object
from authsvc.tokens.validity import Lifetime, check_claims

CACHE_SECONDS = 30.0
"""How long the response for an active token is cached: a revocation at the issuer takes effect that
late. Never beyond ``exp`` (RFC 7662 section 4): in the leeway after it, each request asks."""

REJECTION_CACHE_SECONDS = 5.0
"""How long a rejection is cached, so that a flood of one invalid token causes one request."""

CACHE_SIZE = 4096
"""Cached active tokens, and as many rejections; those used least recently are evicted first."""

CACHE_BYTES = 64 * 1024 * 1024
"""Memory that all active tokens may take, and the same for all rejections."""

MAX_CONCURRENT_REQUESTS = 256
"""Requests in flight: a flood of unknown tokens is not passed on to the issuer."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""``b64token`` of RFC 6750 section 2.1: nothing else can be sent in the header."""

_ACCESS_TOKENS: Mapping[str, Collection[str]] = {
    "token_type": ("", "bearer", "access_token"),
    "token_use": ("", "access_token"),
}
"""Accepted values of members that name the kind of token. Issuers also describe refresh tokens, in
spite of the hint (RFC 7662 section 2.1), and sender-constrained ones, which no bearer may use."""


@dataclass(frozen=True, slots=True)
class _Active:
    """An active token."""

    until: float
    token: VerifiedToken
    lifetime: Lifetime

    def memory_bytes(self) -> int:
        return 250 + self.token.memory_bytes()

    def verdict(self, now: float) -> VerifiedToken:
        self.lifetime.check(now)
        return self.token


@dataclass(frozen=True, slots=True)
class _Rejected:
    """A rejected token. Not the error itself: its frames hold the token and the response."""

    until: float
    reason: Reason
    detail: str

    def memory_bytes(self) -> int:
        return 1_000 + 4 * len(self.detail)

    def verdict(self, now: float) -> VerifiedToken:
        raise AuthError(self.reason, self.detail)


_Result = _Active | _Rejected
"""The result for a token, valid until a time."""

_Key = tuple[bytes, str]
"""A token's digest and the resource that it was presented for."""

_ResultT = TypeVar("_ResultT", _Active, _Rejected)


class _Results(Generic[_ResultT]):
    """A cache of results of one kind. The two kinds have caches of their own, so that a flood of
    rejections evicts no active token."""

    def __init__(self) -> None:
        self._results: LruCache[_Key, _ResultT] = LruCache(CACHE_SIZE, CACHE_BYTES)

    def get(self, key: _Key, now: float) -> _ResultT | None:
        result = self._results.get(key)
        if result is None:
            return None
        if now >= result.until:
            self._results.discard(key)
            return None
        return result

    def put(self, key: _Key, result: _ResultT) -> None:
        self._results.put(key, result, result.memory_bytes())


class IntrospectionVerifier:
    """A ``TokenVerifier`` for one issuer's opaque tokens. Belongs to one event loop.

    Args:
        issuer: claim ``iss`` of its tokens.
        endpoint: its introspection endpoint.
        client_id: authsvc's client id there.
        client_secret: its secret there, read for each request; raises SecretFileError.
        mapping: how its claims become a principal.
        leeway_seconds: how far its clock may deviate.
        audiences: accepted ``aud``, by resource; where a resource is missing, the resource itself.
        max_token_bytes: the longest token that is accepted.
        fetcher: sends the requests.

    Raises:
        FetchError: the endpoint is neither https nor http on loopback.
    """

    def __init__(
        self,
        *,
        issuer: str,
        endpoint: str,
        client_id: str,
        client_secret: Callable[[], Secret],
        mapping: ClaimMapping,
        leeway_seconds: float = 30.0,
        audiences: Mapping[str, Collection[str]] | None = None,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        fetcher: Fetcher,
    ) -> None:
        check_url(endpoint)
        self._issuer = issuer
        self._endpoint = endpoint
        self._client_id = client_id
        self._client_secret = client_secret
        self._mapping = mapping
        self._leeway_seconds = leeway_seconds
        self._audiences = audiences or {}
        self._max_token_bytes = max_token_bytes
        self._fetcher = fetcher
        self._active: _Results[_Active] = _Results()
        self._rejected: _Results[_Rejected] = _Results()
        self._requests: dict[_Key, asyncio.Task[_Result]] = {}

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``. Rejections are cached, too."""
        if len(token.text) > self._max_token_bytes:
            raise AuthError(Reason.TOKEN_TOO_LARGE, f"more than {self._max_token_bytes} bytes")
        key = (token.digest, resource)
        result = self._active.get(key, now) or self._rejected.get(key, now)
        return result.verdict(now) if result is not None else None

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        result = self._active.get((token.digest, resource), now)
        return result is not None and result.token is token and result.lifetime.includes(now)

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``.

        Raises:
            AuthError: TOKEN_INACTIVE when the issuer responds with ``active: false``, which may be
                all that it says (RFC 7662 section 2.2); KEYS_UNAVAILABLE when it does not respond,
                or too many requests are in flight.
        """
        cached = self.cached(token, resource=resource, now=now)
        if cached is not None:
            return cached
        if not _TOKEN.fullmatch(token.text):
            raise AuthError(Reason.TOKEN_MALFORMED, "has characters that no bearer token has")
        key = (token.digest, resource)
        request = self._requests.get(key)
        if request is None:
            if len(self._requests) >= MAX_CONCURRENT_REQUESTS:
                raise AuthError(
                    Reason.KEYS_UNAVAILABLE, "too many introspection requests are in flight"
                )
            request = asyncio.create_task(self._introspect(key, token.text, now), name="introspect")
            self._requests[key] = request
            request.add_done_callback(partial(self._completed, key))
        # A caller that is cancelled does not cancel the request for the others.
        return (await asyncio.shield(request)).verdict(now)

    def _completed(self, key: _Key, request: asyncio.Task[_Result]) -> None:
        del self._requests[key]
        if not request.cancelled():
            # asyncio logs an exception that nobody retrieves, as when all callers were cancelled.
            request.exception()

    async def _introspect(self, key: _Key, token: str, now: float) -> _Result:
        response = await self._request(token)
        claims = self._claims(response)
        digest, resource = key
        try:
            active = self._check(claims, response, digest, resource, now)
        except AuthError as error:
            rejected = _Rejected(now + REJECTION_CACHE_SECONDS, error.reason, error.detail)
            self._rejected.put(key, rejected)
            return rejected
        self._active.put(key, active)
        return active

    async def _request(self, token: str) -> bytes:
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            headers = basic_authorization(self._client_id, self._client_secret().reveal())
            body, _ = await self._fetcher.post(self._endpoint, form, headers)
        except (FetchError, SecretFileError) as error:
            raise AuthError(Reason.KEYS_UNAVAILABLE, str(error)) from None
        # The rest is parsed as strictly as a token: it becomes the claims of a principal.
        return body.removeprefix(codecs.BOM_UTF8)

    def _claims(self, response: bytes) -> dict[str, object]:
        try:
            claims = parse_json_object(response)
        except ValueError:
            claims = {}
        if not isinstance(claims.get("active"), bool):
            raise AuthError(Reason.KEYS_UNAVAILABLE, f"{self._endpoint}: the response is not valid")
        return claims

    def _check(
        self, claims: dict[str, object], response: bytes, digest: bytes, resource: str, now: float
    ) -> _Active:
        if not claims["active"]:
            raise AuthError(Reason.TOKEN_INACTIVE, "not active")
        claims = {"iss": self._issuer, **claims}
        if claims["iss"] != self._issuer:
            raise AuthError(Reason.TOKEN_ISSUER_UNKNOWN, "the response names another issuer")
        for name, kinds in _ACCESS_TOKENS.items():
            if optional_text(claims, name).lower() not in kinds:
                raise AuthError(Reason.TOKEN_MALFORMED, f"no access token by its {name}")
        lifetime = check_claims(
            claims,
            required=("exp",),
            audiences=self._audiences.get(resource, (resource,)),
            leeway_seconds=self._leeway_seconds,
            now=now,
        )
        verified = VerifiedToken(
            digest=digest,
            principal=self._mapping.principal(claims, response),
            issue_time=numeric_date(claims, "iat") or 0.0,
            token_id=kept_text(claims, "jti"),
        )
        until = min(now + CACHE_SECONDS, verified.principal.expire_time)
        return _Active(until, verified, lifetime)
