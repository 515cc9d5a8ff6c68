"""Verification of tokens by introspection at their issuer (RFC 7662)."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from authsvc.common.lru import LruCache
from authsvc.common.oauth_endpoint import MAX_RETRY_AFTER_SECONDS, EndpointError, OAuthEndpoint
from authsvc.domain.errors import AuthError, Reason, of_setting
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.tokens.compact import MAX_TOKEN_BYTES, too_large
from authsvc.tokens.introspection_answers import IntrospectedIssuer
from authsvc.tokens.validity import Lifetime

log = logging.getLogger(__name__)

CACHE_SECONDS = 30.0
"""How long the response for an active token is cached: a revocation at the issuer takes effect that
late. Never beyond ``exp`` (RFC 7662 section 4): in the leeway after it, each request asks."""

RENEWAL_SECONDS = 5.0
"""How long before its end a cached response is requested anew, in the background: no request and no
check of a stream waits for a slow endpoint while its token is in use."""

REJECTION_CACHE_SECONDS = 5.0
"""How long a rejection is cached, so that a flood of one invalid token causes one request."""

CACHE_SIZE = 4096
"""Cached active tokens, and as many rejections; those used least recently are evicted first."""

CACHE_BYTES = 64 * 1024 * 1024
"""Memory that all active tokens may take, and the same for all rejections."""

MAX_CONCURRENT_REQUESTS = 256
"""Requests in flight: a flood of unknown tokens is not passed on to the issuer."""

TABLE = "introspection"
"""The table of the configuration that its settings are in."""

_INACTIVE = {
    "invalid_token": ("", ""),
    "unsupported_token_type": (
        (
            ": the issuer does not introspect its JWTs; [[issuers]] verifies them by its keys, "
            "with introspection.tokens = 'opaque'"
        ),
        f"{TABLE}.tokens",
    ),
}
"""Errors that concern the token, not the request; what to do about them, and the setting. The
second is one of revocation (RFC 7009 section 2.2.1), which oidc-provider also returns here."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""``b64token`` of RFC 6750 section 2.1: nothing else can be sent in the header."""


@dataclass(slots=True)
class _Active:
    """An active token, and when to request its response anew; infinity once that was tried."""

    until: float
    token: VerifiedToken
    lifetime: Lifetime
    renew_time: float

    def memory_bytes(self) -> int:
        return 250 + self.token.memory_bytes()

    def verdict(self, now: float) -> VerifiedToken:
        try:
            self.lifetime.check(now)
        except AuthError as error:
            error.in_table(TABLE)
            raise
        return self.token


@dataclass(frozen=True, slots=True)
class _Rejected:
    """A rejected token. Not the error itself: its frames hold the token and the response."""

    until: float
    reason: Reason
    detail: str
    setting: str

    def memory_bytes(self) -> int:
        return 1_000 + 4 * len(self.detail)

    def verdict(self, now: float) -> VerifiedToken:
        raise AuthError(self.reason, self.detail, setting=self.setting)


def request_of(token: str) -> dict[str, str]:
    """The form of a request (RFC 7662 section 2.1), without client authentication."""
    return {"token": token, "token_type_hint": "access_token"}


def is_about_token(error: EndpointError) -> bool:
    """Whether the endpoint rejects a token by an error: the token is not active."""
    return error.status == 400 and error.code in _INACTIVE


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

    def discard(self, key: _Key) -> None:
        self._results.discard(key)


class IntrospectionVerifier:
    """A ``TokenVerifier`` for one issuer's tokens. Belongs to one event loop.

    Args:
        issuer: the issuer, and which of its responses are accepted.
        endpoint: its introspection endpoint.
        max_token_bytes: the longest token that is accepted.
    """

    def __init__(
        self,
        issuer: IntrospectedIssuer,
        endpoint: OAuthEndpoint,
        *,
        max_token_bytes: int = MAX_TOKEN_BYTES,
    ) -> None:
        self._issuer = issuer
        self._endpoint = endpoint
        self._max_token_bytes = max_token_bytes
        self._active: _Results[_Active] = _Results()
        self._rejected: _Results[_Rejected] = _Results()
        self._requests: dict[_Key, asyncio.Task[_Result]] = {}
        self._resume_time = 0.0
        self._failure = ""

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        """See ``TokenVerifier.cached``. Rejections are cached, too."""
        if len(token.text) > self._max_token_bytes:
            raise too_large(self._max_token_bytes)
        key = (token.digest, resource)
        active = self._active.get(key, now)
        if active is not None and now >= active.renew_time:
            active.renew_time = math.inf
            self._renew(key, token.text, now)
        result = active or self._rejected.get(key, now)
        return result.verdict(now) if result is not None else None

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        """See ``TokenVerifier.is_valid``."""
        result = self._active.get((token.digest, resource), now)
        if result is None or now >= result.renew_time:
            return False
        return result.token is token and result.lifetime.includes(now)

    def needs_keys_alone(self, token: BearerToken) -> bool:
        """See ``TokenVerifier.needs_keys_alone``."""
        return False

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
            self._check_may_ask(now)
            if len(self._requests) >= MAX_CONCURRENT_REQUESTS:
                raise AuthError(
                    Reason.KEYS_UNAVAILABLE, "too many introspection requests are in flight"
                )
            request = self._begin_request(key, token.text, now)
        # A caller that is cancelled does not cancel the request for the others.
        return (await asyncio.shield(request)).verdict(now)

    def _renew(self, key: _Key, token: str, now: float) -> None:
        """Request a response anew, unless that would not be done for a new token either."""
        if len(self._requests) < MAX_CONCURRENT_REQUESTS and self._pause(now) == 0.0:
            self._begin_request(key, token, now)

    def _begin_request(self, key: _Key, token: str, now: float) -> asyncio.Task[_Result]:
        request = asyncio.create_task(self._introspect(key, token, now), name="introspect")
        self._requests[key] = request
        request.add_done_callback(partial(self._completed, key))
        return request

    def _completed(self, key: _Key, request: asyncio.Task[_Result]) -> None:
        del self._requests[key]
        if not request.cancelled():
            # asyncio logs an exception that nobody retrieves, as when all callers were cancelled.
            request.exception()

    def _check_may_ask(self, now: float) -> None:
        """
        Raises:
            AuthError: KEYS_UNAVAILABLE when the endpoint has asked to wait.
        """
        wait = self._pause(now)
        if wait > 0:
            raise AuthError(
                Reason.KEYS_UNAVAILABLE,
                f"{self._endpoint.shown} has asked to wait (Retry-After)",
                retry_after_seconds=wait,
            )

    def _pause(self, now: float) -> float:
        """How long the endpoint has asked to wait."""
        wait = self._resume_time - now
        # A longer one shows that the clock was set back.
        return wait if 0 < wait <= MAX_RETRY_AFTER_SECONDS else 0.0

    async def _introspect(self, key: _Key, token: str, now: float) -> _Result:
        digest, resource = key
        try:
            response = await self._response(token, now)
            verified, lifetime = self._verified(response, digest, resource, now)
        except AuthError as error:
            if error.reason is Reason.KEYS_UNAVAILABLE:
                self._note_failure(f"{error.detail}{of_setting(error.setting)}")
                raise
            self._note_failure("")
            until = now + REJECTION_CACHE_SECONDS
            rejected = _Rejected(until, error.reason, error.detail, error.setting)
            self._active.discard(key)
            self._rejected.put(key, rejected)
            return rejected
        self._note_failure("")
        until = min(now + CACHE_SECONDS, verified.principal.expire_time)
        is_renewed = until == now + CACHE_SECONDS
        renew_time = until - RENEWAL_SECONDS if is_renewed else math.inf
        active = _Active(until, verified, lifetime, renew_time)
        self._active.put(key, active)
        return active

    def _verified(
        self, response: bytes, digest: bytes, resource: str, now: float
    ) -> tuple[VerifiedToken, Lifetime]:
        try:
            return self._issuer.verified(response, digest, resource=resource, now=now)
        except AuthError as error:
            error.in_table(TABLE)
            raise

    async def _response(self, token: str, now: float) -> bytes:
        try:
            return await self._endpoint.post(request_of(token), now)
        except EndpointError as error:
            if is_about_token(error):
                remedy, setting = _INACTIVE[error.code]
                detail = f"{error}{remedy}"
                raise AuthError(Reason.TOKEN_INACTIVE, detail, setting=setting) from None
            if error.retry_after_seconds is not None and error.status in (429, 503):
                self._resume_time = now + error.retry_after_seconds
            detail, setting = str(error), error.setting
            if error.status == 403 and not setting:
                detail += f": authsvc's client may not introspect; {self._endpoint.client_advice}"
                setting = f"{TABLE}.client_id"
            raise AuthError(
                Reason.KEYS_UNAVAILABLE,
                detail,
                setting=setting,
                retry_after_seconds=error.retry_after_seconds,
            ) from None

    def _note_failure(self, failure: str) -> None:
        """Log each new failure of the endpoint once, and when it is over."""
        if failure == self._failure:
            return
        self._failure = failure
        if failure:
            log.error("introspection fails: %s", failure)
        else:
            log.info("introspection works again: %s", self._endpoint.shown)
