"""Opaque tokens: asking their issuer what they are (RFC 7662)."""

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
"""How long an answer counts: how late a revocation at the issuer may be seen. Never beyond the
token's ``exp`` (RFC 7662 section 4): in the leeway after it, the issuer decides each time."""

REFUSAL_SECONDS = 5.0
"""How long a refusal counts, so that a flood of one bad token is one question."""

CACHE_SIZE = 4096
"""Good answers that are kept, and as many refusals; those used least recently are forgotten
first."""

CACHE_BYTES = 64 * 1024 * 1024
"""What good answers may take together in memory, and refusals as well."""

MAX_QUESTIONS = 256
"""Questions under way: a flood of unknown tokens is not passed on to the issuer."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""``b64token`` of RFC 6750 section 2.1: nothing else can come in a header."""

_ACCESS_TOKENS: Mapping[str, Collection[str]] = {
    "token_type": ("", "bearer", "access_token"),
    "token_use": ("", "access_token"),
}
"""What an answer may say of the kind of token. Issuers answer for refresh tokens as well, which the
hint does not prevent (RFC 7662 section 2.1), and sender-constrained ones are no bearer tokens."""


@dataclass(frozen=True, slots=True)
class _Good:
    """A token that is active."""

    until: float
    token: VerifiedToken
    lifetime: Lifetime

    def memory_bytes(self) -> int:
        return 250 + self.token.memory_bytes()

    def verdict(self, now: float) -> VerifiedToken:
        self.lifetime.check(now)
        return self.token


@dataclass(frozen=True, slots=True)
class _Bad:
    """A token that is refused. Not the error itself: its frames hold the token and the answer."""

    until: float
    reason: Reason
    detail: str

    def memory_bytes(self) -> int:
        return 1_000 + 4 * len(self.detail)

    def verdict(self, now: float) -> VerifiedToken:
        raise AuthError(self.reason, self.detail)


_Known = _Good | _Bad
"""What the issuer has said of a token, and until when that counts."""

_Key = tuple[bytes, str]
"""A token's digest and the resource that it was presented for."""

_KnownT = TypeVar("_KnownT", _Good, _Bad)


class _Answers(Generic[_KnownT]):
    """The answers of one kind that still count. Two kinds are kept apart, so that no flood of
    refusals drives the good ones out."""

    def __init__(self) -> None:
        self._answers: LruCache[_Key, _KnownT] = LruCache(CACHE_SIZE, CACHE_BYTES)

    def get(self, key: _Key, now: float) -> _KnownT | None:
        known = self._answers.get(key)
        if known is None:
            return None
        if now >= known.until:
            self._answers.discard(key)
            return None
        return known

    def put(self, key: _Key, known: _KnownT) -> None:
        self._answers.put(key, known, known.memory_bytes())


class IntrospectionVerifier:
    """A ``TokenVerifier`` for one issuer's opaque tokens. Belongs to one event loop.

    Args:
        issuer: claim ``iss`` of its tokens.
        endpoint: its introspection endpoint.
        client_id: our name there.
        client_secret: our secret there, read for each request; raises SecretFileError.
        mapping: how its claims become a principal.
        leeway_seconds: how far its clock may be off.
        audiences: what ``aud`` may be, by resource; the resource itself where nothing is given.
        max_token_bytes: longest token that is asked about.
        fetcher: speaks HTTP.

    Raises:
        FetchError: the endpoint is not HTTPS, and not loopback either.
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
        self._good: _Answers[_Good] = _Answers()
        self._bad: _Answers[_Bad] = _Answers()
        self._asking: dict[_Key, asyncio.Task[_Known]] = {}

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``. A refusal is cached, too."""
        if len(token.text) > self._max_token_bytes:
            raise AuthError(Reason.TOKEN_TOO_LARGE, f"more than {self._max_token_bytes} bytes")
        key = (token.digest, resource)
        known = self._good.get(key, now) or self._bad.get(key, now)
        return known.verdict(now) if known is not None else None

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        known = self._good.get((token.digest, resource), now)
        return known is not None and known.token is token and known.lifetime.includes(now)

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        """See ``TokenVerifier.verify``.

        Raises:
            AuthError: TOKEN_INACTIVE when the issuer says that it is not active, which is all that
                it says (RFC 7662 section 2.2); KEYS_UNAVAILABLE when it cannot be asked, or is
                being asked too much at the moment.
        """
        cached = self.cached(token, resource=resource, now=now)
        if cached is not None:
            return cached
        if not _TOKEN.fullmatch(token.text):
            raise AuthError(Reason.TOKEN_MALFORMED, "not of the characters of a bearer token")
        key = (token.digest, resource)
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= MAX_QUESTIONS:
                raise AuthError(Reason.KEYS_UNAVAILABLE, "too many questions are under way")
            asking = asyncio.create_task(self._ask(key, token.text, now), name="introspect")
            self._asking[key] = asking
            asking.add_done_callback(partial(self._answered, key))
        # One who leaves does not end it for the others.
        return (await asyncio.shield(asking)).verdict(now)

    def _answered(self, key: _Key, asking: asyncio.Task[_Known]) -> None:
        del self._asking[key]
        if not asking.cancelled():
            # Looked at, or asyncio complains where all who had asked have left.
            asking.exception()

    async def _ask(self, key: _Key, token: str, now: float) -> _Known:
        answer = await self._answer(token)
        claims = self._claims(answer)
        digest, resource = key
        try:
            good = self._judged(claims, answer, digest, resource, now)
        except AuthError as error:
            bad = _Bad(now + REFUSAL_SECONDS, error.reason, error.detail)
            self._bad.put(key, bad)
            return bad
        self._good.put(key, good)
        return good

    async def _answer(self, token: str) -> bytes:
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            headers = basic_authorization(self._client_id, self._client_secret().reveal())
            body, _ = await self._fetcher.post(self._endpoint, form, headers)
        except (FetchError, SecretFileError) as error:
            raise AuthError(Reason.KEYS_UNAVAILABLE, str(error)) from None
        # The rest is read as strictly as a token: it is passed on as the claims of a principal.
        return body.removeprefix(codecs.BOM_UTF8)

    def _claims(self, answer: bytes) -> dict[str, object]:
        try:
            claims = parse_json_object(answer)
        except ValueError:
            claims = {}
        if not isinstance(claims.get("active"), bool):
            raise AuthError(Reason.KEYS_UNAVAILABLE, f"{self._endpoint}: not an answer")
        return claims

    def _judged(
        self, claims: dict[str, object], answer: bytes, digest: bytes, resource: str, now: float
    ) -> _Good:
        if not claims["active"]:
            raise AuthError(Reason.TOKEN_INACTIVE, "not active")
        claims = {"iss": self._issuer, **claims}
        if claims["iss"] != self._issuer:
            raise AuthError(Reason.TOKEN_ISSUER_UNKNOWN, "the answer names another issuer")
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
            principal=self._mapping.principal(claims, answer),
            issue_time=numeric_date(claims, "iat") or 0.0,
            token_id=kept_text(claims, "jti"),
        )
        until = min(now + CACHE_SECONDS, verified.principal.expire_time)
        return _Good(until, verified, lifetime)
