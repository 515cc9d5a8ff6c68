"""How much of a request's body is read and parsed, and how soon, before its token is verified."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from mcp_types import RequestId

from authsvc.domain.rates import RECHECK
from authsvc.http_auth import messages, refusals
from authsvc.http_auth.bodies import check_type
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.strict_json import has_many_values
from authsvc.http_auth.throttling import Pace

DEFAULT_MAX_BYTES = 64 * 1024
"""Longest body without a verified token, unless configured otherwise."""

SHORT_BODY_BYTES = 4 * 1024
"""Longer bodies are paced where there is no valid token: without a token before they are parsed,
with a rejected one before the answer. A shorter one costs little beside the request itself."""

PACED_INTERVAL_SECONDS = 0.01
"""From one paced request to the next: bounds the cost of a flood of them."""

PACED_MAX_SECONDS = 2.0
"""Longest that a paced request waits."""

_PACED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED}
"""Rejections of a token that may wait. Others also answer valid tokens: an outage, a limit, a
session that has ended. Every 404 takes equally long, so that its latency does not
tell whether a session exists."""


class Allowance:
    """How long and how large a request's body may be before its token is verified.

    Args:
        max_bytes: longest body without a verified token.
        verify: verifies the token. Raises ``Refusal`` where nothing more is to be read, which names
            the setting that it is given.
    """

    def __init__(self, max_bytes: int, verify: Callable[[str], Awaitable[None]]) -> None:
        self._max_bytes = max_bytes
        self._verify = verify
        self.is_verified = False
        """Whether the body is one that needed it, and the token was verified."""

    async def check_bytes(self, count: int) -> None:
        """Verify the token, once, if the body is longer than it may be without.

        Raises:
            Refusal: of ``verify``.
        """
        if count > self._max_bytes:
            await self._verify_once("max_anonymous_body_bytes")

    async def check_values(self, body: bytes) -> None:
        """Verify the token, once, if the body may hold more values than it may without.

        Raises:
            Refusal: of ``verify``.
        """
        if has_many_values(body):
            await self._verify_once("")  # no setting changes how many

    async def _verify_once(self, setting: str) -> None:
        if not self.is_verified:
            await self._verify(setting)
            self.is_verified = True


class AnonymousBodies:
    """Bounds what bodies cost before their tokens are verified.

    Args:
        resolving: verifies the token of a body that is long or holds many values.
        max_bytes: longest body without a verified token.
    """

    def __init__(self, resolving: RequestResolver, *, max_bytes: int) -> None:
        self._resolving = resolving
        self._max_bytes = max_bytes
        # Two, so that a flood of the one kind does not hold up the other.
        self._anonymous_pace = Pace(PACED_INTERVAL_SECONDS, PACED_MAX_SECONDS)
        self._token_pace = Pace(PACED_INTERVAL_SECONDS, PACED_MAX_SECONDS)

    def allowance(self, request: RequestHeaders) -> Allowance:
        """That of one request."""
        return Allowance(self._max_bytes, partial(self._verify, request))

    def request_id(self, headers: Headers, body: bytes) -> RequestId | None:
        """The id of a request whose headers are refused: the error bears it (JSON-RPC 2.0 section
        5). No token is verified for it: a body that would need one is not parsed."""
        if len(body) > self._max_bytes or has_many_values(body):
            return None
        try:
            check_type(headers)
            return messages.request_id_of(messages.parse(body))
        except Refusal:
            return None

    def parsing_pace(self, body: bytes) -> Pace | None:
        """What the parsing of a body without a token waits for; None where it does not wait."""
        return self._anonymous_pace if len(body) > SHORT_BODY_BYTES else None

    def pace(self, refusal: Refusal, request: RequestHeaders, body: bytes) -> None:
        """Pace the answer to a body that is not short, where its token is not a valid one."""
        if len(body) > SHORT_BODY_BYTES and request.token and not request.is_verified:
            self._pace_rejection(refusal)

    def _pace_rejection(self, refusal: Refusal) -> None:
        if refusal.status in _PACED:
            refusal.pace = self._token_pace

    async def _verify(self, request: RequestHeaders, setting: str) -> None:
        """
        Raises:
            Refusal: the request may have no body that is long, or holds many values.
        """
        token_helps = self._resolving.can_verify(request)
        if not token_helps or not request.token:
            raise refusals.anonymous_body(
                self._max_bytes, self._anonymous_pace, token_helps=token_helps, setting=setting
            )
        try:
            # Its message counts, once that is known.
            await self._resolving.identify(request, None, opens_session=False, counts=RECHECK)
        except Refusal as refusal:
            self._pace_rejection(refusal)
            refusal.headers["Connection"] = "close"  # as the rest of the body is not read
            raise
