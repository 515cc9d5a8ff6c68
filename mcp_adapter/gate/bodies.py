"""The bodies of requests: what is read and parsed of them before their token is verified."""

from __future__ import annotations

from mcp_types import RequestId
from starlette.types import Receive

from authsvc.http_auth.anonymous_bodies import AnonymousBodies
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.resolving import RequestResolver
from mcp_adapter.gate.body_reading import read_body
from mcp_adapter.gate.pacing import wait_while_connected


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
        self._anonymous = AnonymousBodies(resolving, max_bytes=max_anonymous_bytes)
        self._max_bytes = max_bytes
        self._max_anonymous_bytes = max_anonymous_bytes
        self._timeout_seconds = timeout_seconds

    async def read(self, request: RequestHeaders, receive: Receive) -> bytes:
        """A request's body. Its token is verified first if there is much to read or to parse.
        Without a token, a body that is not short is paced.

        Raises:
            Refusal: nothing more is read.
            ClientDisconnect: the client left.
        """
        allowance = self._anonymous.allowance(request)
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

    async def request_id(self, headers: Headers, receive: Receive) -> RequestId | None:
        """See ``AnonymousBodies.request_id``. A body that is not short is parsed at a bounded rate.

        Raises:
            ClientDisconnect: the client left.
        """
        try:
            body = await read_body(
                receive,
                headers,
                max_bytes=self._max_anonymous_bytes,
                timeout_seconds=self._timeout_seconds,
            )
        except Refusal:
            return None
        await self._wait_with(body, receive)
        return self._anonymous.request_id(headers, body)

    def pace(self, refusal: Refusal, request: RequestHeaders, body: bytes) -> None:
        """Pace the answer to a body that is not short, where its token is not a valid one."""
        self._anonymous.pace(refusal, request, body)

    async def _wait_with(self, body: bytes, receive: Receive) -> None:
        """Pace the parsing of a body that is not short.

        Raises:
            ClientDisconnect: the client left.
        """
        if (pace := self._anonymous.parsing_pace(body)) is not None:
            await wait_while_connected(pace, receive)
