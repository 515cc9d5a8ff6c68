"""``api_client``: an HTTP client that calls one API with the token that authsvc issues.

The token is put into a request below the client, on its way to the API: what a tool sees of
requests, responses and errors never has it.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any

from authsvc.common import arguments, extras

# The official SDK installs it; the extra middleware does without.
extras.need("mcp_adapter.api_client", "adapter", "httpx2")
# isort: split

import httpx2

from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import BearerCredentials
from authsvc.net import urls
from mcp_adapter.gate.callers import Caller

__all__ = ["ApiClient", "api_client"]

DEFAULT_TIMEOUT_SECONDS = 30.0

_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
"""What the token and its type consist of. HTTP libraries quote a value that they reject."""

_LED_ELSEWHERE = "authsvc.led_elsewhere"
"""The extension of a request that another origin has redirected. Redirects keep extensions."""


class ApiClient(httpx2.AsyncClient):
    """An ``httpx2.AsyncClient`` for one API. It is made by ``api_client``.

    Args:
        base_url: of the API.
        transport: sends, and authorises what is for the API's origin.
        timeout: seconds.
    """

    def __init__(self, base_url: str, transport: _Authorized, timeout: float) -> None:
        # Without the environment: a proxy of its would get the token where the API has no TLS.
        super().__init__(base_url=base_url, transport=transport, timeout=timeout, trust_env=False)
        self._api_origin = httpx2.URL(base_url).origin

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - of httpx2
        """Send a request to the API.

        Raises:
            ValueError: its URL is of another origin, or the token cannot be sent in a header:
                nothing is sent.
            NoCredentialsError: as of ``Caller.credentials``, as for the next two.
            AuthError: the token is refused or unavailable, or the caller's request has ended.
            TypeError: the credentials are no access token.
            httpx2.HTTPError: there is no valid answer.
        """
        if request.url.origin != self._api_origin:
            raise ValueError("the URL is not one of the API that base_url names")
        return await super().send(request, **options)


def api_client(
    caller: Caller,
    name: str,
    *,
    base_url: str,
    transport: httpx2.AsyncBaseTransport | None = None,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
) -> ApiClient:
    """A client that calls one API as the caller, with the token that authsvc issues for it.

    Each request asks authsvc for the token, which has it cached, as a rule: a caller that has been
    revoked sends no more. The token goes to the origin of ``base_url`` alone. A redirect is not
    followed unless a request asks for it, and then without the token where it leads elsewhere, or
    comes back from there. A Host header, and extensions of a request other than its timeout, have
    no effect where it has the token.

    Where the API answers 401, authsvc is asked for another token, once for all requests that were
    sent with that one. If there is another, the request is sent again, unless its body was a
    stream. The second answer is returned, whatever it is (RFC 6750 section 3.1 has 401 for a token
    that is not valid, and 403 for one that lacks a scope, which is returned as it is).

    Use it within ``async with``, while the caller's request is served.

    Args:
        caller: what ``caller(request)`` returns.
        name: of the credentials, as authsvc's configuration names them; they are an access token.
        base_url: of the API, such as ``https://api.example/v1``: https, or of this machine.
        transport: sends the requests; None for httpx2's own, without proxies of the environment.
        timeout: of each step of a request, in seconds.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``base_url`` is no such URL, or ``timeout`` not above 0.
    """
    arguments.instance_of("caller", caller, Caller)
    arguments.instance_of("name", name, str)
    _check_base_url(arguments.instance_of("base_url", base_url, str))
    if transport is None:
        transport = httpx2.AsyncHTTPTransport(trust_env=False)
    arguments.instance_of("transport", transport, httpx2.AsyncBaseTransport)
    authorized = _Authorized(transport, httpx2.URL(base_url), _Tokens(caller, name))
    return ApiClient(base_url, authorized, arguments.positive_number("timeout", timeout))


class _Tokens:
    """The tokens of one client.

    Args:
        caller: whose they are.
        name: of the credentials.
    """

    def __init__(self, caller: Caller, name: str) -> None:
        self._caller = caller
        self._name = name
        self._renewing = asyncio.Lock()
        self._rejected: BearerCredentials | None = None
        self._renewed: BearerCredentials | AuthError | None = None

    async def current(self) -> BearerCredentials:
        """The token to send now. One that the API has rejected is named as such: another replica
        of authsvc may have it cached still.

        Raises:
            Exception: of ``Caller.credentials``.
        """
        return await self._caller.credentials(
            self._name, BearerCredentials, rejected=self._rejected
        )

    async def in_place_of(self, rejected: BearerCredentials) -> BearerCredentials:
        """Another token, or the same one where there is no other. Asked for once for each token
        that is rejected.

        Raises:
            Exception: of ``Caller.credentials``.
        """
        async with self._renewing:
            if self._renewed is None or self._rejected != rejected:
                self._renewed = await self._outcome(rejected)
                self._rejected = rejected
            renewed = self._renewed
        if isinstance(renewed, AuthError):
            raise renewed.raisable()
        return renewed

    async def _outcome(self, rejected: BearerCredentials) -> BearerCredentials | AuthError:
        try:
            return await self._caller.credentials(self._name, BearerCredentials, rejected=rejected)
        except AuthError as error:
            return error.raisable()


class _Authorized(httpx2.AsyncBaseTransport):
    """Puts the token into requests for one origin.

    Args:
        transport: sends them.
        base_url: has the origin.
        tokens: to be sent.
    """

    def __init__(
        self, transport: httpx2.AsyncBaseTransport, base_url: httpx2.URL, tokens: _Tokens
    ) -> None:
        self._transport = transport
        self._origin = base_url.origin
        self._tokens = tokens

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; see ``api_client``."""
        if request.url.origin != self._origin or _LED_ELSEWHERE in request.extensions:
            # A redirect. What it asks for is another's choice, so that it does not get the token
            # where it leads back, either (Fetch standard, HTTP-redirect fetch, has the same).
            request.extensions = {**request.extensions, _LED_ELSEWHERE: True}
            return await self._transport.handle_async_request(request)
        token = await self._tokens.current()
        response = await self._send(request, token)
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return response
        try:
            renewed = await self._tokens.in_place_of(token)
        except BaseException:
            await response.aclose()
            raise
        can_be_sent_again = isinstance(request.stream, httpx2.ByteStream)
        if renewed.access_token == token.access_token or not can_be_sent_again:
            return response
        await response.aclose()
        return await self._send(request, renewed)

    async def _send(self, request: httpx2.Request, token: BearerCredentials) -> httpx2.Response:
        headers = httpx2.Headers(request.headers)
        # By another name, a server of many hosts would pass the token on to another one.
        headers["Host"] = request.url.netloc.decode("ascii")
        headers["Authorization"] = _authorization(token)
        authorized = httpx2.Request(
            request.method,
            request.url,
            headers=headers,
            stream=request.stream,
            # Others name another host or target, or show the headers to the tool (trace).
            extensions={
                key: request.extensions[key] for key in request.extensions if key == "timeout"
            },
        )
        try:
            return await self._transport.handle_async_request(authorized)
        except BaseException as error:  # noqa: BLE001 - also when the tool is cancelled
            # The frames below have the headers in their variables, and so have those of the cause.
            error.__cause__ = error.__context__ = None
            raise error.with_traceback(None) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _authorization(token: BearerCredentials) -> str:
    """
    Raises:
        ValueError: it cannot be sent. The message quotes nothing of it.
    """
    parts = token.token_type, token.access_token.reveal()
    if not all(_HEADER_VALUE.fullmatch(part) for part in parts):
        raise ValueError("the access token or its type has characters that no header can have")
    return " ".join(parts)


def _check_base_url(base_url: str) -> None:
    """
    Raises:
        ValueError: it is no URL that a token may be sent to.
    """
    try:
        url = urls.read(base_url)
    except ValueError as error:
        raise ValueError(f"base_url {error}") from None
    if not url.is_secure:
        raise ValueError("base_url is https, or http on this machine: a token is sent there")
    if url.user is not None or url.query is not None or url.fragment is not None:
        raise ValueError("base_url has no user, query or fragment")
