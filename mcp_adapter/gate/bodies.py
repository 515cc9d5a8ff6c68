"""How much of a request's body is read and parsed, and how soon, before its token is verified."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from mcp_types import RequestId
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from mcp_adapter.gate import messages, refusals
from mcp_adapter.gate.body_reading import Allowance, read_body
from mcp_adapter.gate.refusals import Refusal
from mcp_adapter.gate.request_headers import RequestHeaders
from mcp_adapter.gate.resolving import RequestResolver
from mcp_adapter.gate.strict_json import has_many_values
from mcp_adapter.gate.throttling import Pace

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


class Bodies:
    """Reads the bodies of requests.

    Args:
        resolving: verifies the token of a body that is long or holds many values.
        max_bytes: longest body.
        max_anonymous_bytes: longest body without a verified token.
        timeout_seconds: longest time until a body is complete.
    """

    def __init__(
        self,
        resolving: RequestResolver,
        *,
        max_bytes: int,
        max_anonymous_bytes: int,
        timeout_seconds: float,
    ) -> None:
        self._resolving = resolving
        self._max_bytes = max_bytes
        self._max_anonymous_bytes = max_anonymous_bytes
        self._timeout_seconds = timeout_seconds
        # Two, so that a flood of the one kind does not hold up the other.
        self._anonymous_pace = Pace(PACED_INTERVAL_SECONDS, PACED_MAX_SECONDS)
        self._token_pace = Pace(PACED_INTERVAL_SECONDS, PACED_MAX_SECONDS)

    async def read(self, request: RequestHeaders, receive: Receive) -> bytes:
        """A request's body. Its token is verified first if there is much to read or to parse.
        Without a token, a body that is not short is paced.

        Raises:
            Refusal: nothing more is read.
            ClientDisconnect: the client left.
        """
        allowance = Allowance(self._max_anonymous_bytes, partial(self._verify, request))
        body = await read_body(
            receive,
            request.headers,
            max_bytes=self._max_bytes,
            timeout_seconds=self._timeout_seconds,
            allowance=allowance,
        )
        await allowance.check_values(body)
        if not request.token:
            await self._wait_with(body, receive)
        return body

    async def request_id(self, scope: Scope, receive: Receive) -> RequestId | None:
        """The id of a request whose headers are refused: the error bears it (JSON-RPC 2.0 section
        5). No token is verified for it: a body that would need one is not parsed, and one that is
        not short is parsed at a bounded rate.

        Raises:
            ClientDisconnect: the client left.
        """
        try:
            body = await read_body(
                receive,
                Headers(scope=scope),
                max_bytes=self._max_anonymous_bytes,
                timeout_seconds=self._timeout_seconds,
            )
            await self._wait_with(body, receive)
            if has_many_values(body):
                return None
            return messages.request_id_of(messages.parse(body))
        except Refusal:
            return None

    def pace(self, refusal: Refusal, request: RequestHeaders, body: bytes) -> None:
        """Pace the answer to a body that is not short, where its token is not a valid one."""
        if len(body) > SHORT_BODY_BYTES and request.token and not request.is_verified:
            self._pace_rejection(refusal)

    async def _wait_with(self, body: bytes, receive: Receive) -> None:
        """Pace the parsing of a body that is not short.

        Raises:
            ClientDisconnect: the client left.
        """
        if len(body) > SHORT_BODY_BYTES:
            await self._anonymous_pace.wait_while_connected(receive)

    def _pace_rejection(self, refusal: Refusal) -> None:
        if refusal.status in _PACED:
            refusal.pace = self._token_pace

    async def _verify(self, request: RequestHeaders, setting: str) -> None:
        """
        Raises:
            Refusal: the request may have no body that is long, or holds many values.
        """
        # Without a session id it is an initialize: to resolve it would create a session.
        is_outside = request.in_session_era and not request.session_id
        if is_outside or not request.token:
            raise refusals.anonymous_body(
                self._max_anonymous_bytes,
                self._anonymous_pace,
                token_helps=not is_outside,
                setting=setting,
            )
        try:
            await self._resolving.identify(request, None, opens_session=False)
        except Refusal as refusal:
            self._pace_rejection(refusal)
            refusal.headers["Connection"] = "close"  # as the rest of the body is not read
            raise
