"""HTTP requests to issuers, which are treated as hostile.

An issuer's metadata names the address to connect to (server-side request forgery), and its response
may be slow, huge or a redirect. A request goes to an HTTPS URL (HTTP on loopback) and a public
address, follows no redirect, and is bounded in time and size.

Through a proxy, the proxy looks the host's name up and connects to it, so that it alone can reject
private addresses. TLS goes from end to end; therefore only https goes through it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import httpx2

from authsvc.net.addresses import is_loopback
from authsvc.net.client_identity import ClientIdentity, ClientIdentityError
from authsvc.net.failures import Failure, Stage, explained, failure_of, lookup_fault, setting_of
from authsvc.net.proxies import Proxy
from authsvc.net.public_addresses import is_public, is_this_machine
from authsvc.net.trust import Trust, tls_context
from authsvc.net.urls import endpoint_fault, shown_url

MAX_DOCUMENT_BYTES = 512 * 1024
"""Longest document that is accepted."""

MAX_ERROR_BYTES = 8 * 1024
"""How much is read of an answer to a form with another status than 200."""

ERROR_BODY_SECONDS = 1.0
"""How long that may take; what has arrived by then is used."""

FETCH_TIMEOUT_SECONDS = 5.0
"""For a whole exchange, from the name lookup to the last byte."""

CONNECT_TIMEOUT_SECONDS = 2.0
"""For one address of a host that has several."""

_GZIP = 16 + zlib.MAX_WBITS
"""``wbits`` of zlib for the gzip format."""

_NO_CODINGS = frozenset({"", "identity", "utf-8", "aws-chunked"})
"""Values of Content-Encoding that leave a body unchanged. The last two are no content codings, but
some hosts send them: a charset in the wrong header, and the upload encoding of an object store."""


class FetchError(Exception):
    """A document cannot be fetched; the message names the URL, without its query.

    Attributes:
        status: the HTTP status of the answer where it is an error; None where there is no
            answer, or none of use.
        body: the first ``MAX_ERROR_BYTES`` of the body of that answer, if it is one to a form or a
            document. It may repeat secrets of the request.
        retry_after: its header Retry-After; empty where it has none.
        setting: the setting that would mend it, within the endpoint's table of the configuration;
            empty where none is known.
        failure: what kept the request from its answer.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        retry_after: str = "",
        setting: str = "",
        failure: Failure = Failure.ANSWER,
    ) -> None:
        super().__init__(detail)
        self.setting = setting
        self.failure = failure
        self.status = status
        self.body = body
        self.retry_after = retry_after

    @property
    def stage(self) -> Stage:
        """How far the request came."""
        return self.failure.stage


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Sends requests to permitted addresses.

    Attributes:
        allow_private_addresses: whether addresses that are not public are permitted, too. For a URL
            whose host is loopback they always are.
        allow_this_machine: whether loopback addresses are. They are not for a URL that somebody
            else's document names.
        trust: the certificate authorities; None for the system's.
        proxy: what https goes through; None for direct connections.
        identity: the client's certificate, which the host of the URL is shown, and no proxy; https
            alone. It has its own trust, which is that of ``trust``. None without one.
    """

    allow_private_addresses: bool = False
    trust: Trust | None = None
    proxy: Proxy | None = None
    allow_this_machine: bool = True
    identity: ClientIdentity | None = None

    async def get(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        """A document and its headers.

        Raises:
            FetchError: it cannot be fetched; the message names the URL.
        """
        return await self._exchange(_Request("GET", url, {}))

    async def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of the response to a form.

        Raises:
            FetchError: there is no response with status 200; the message names the URL, and nothing
                of the form.
        """
        return await self._exchange(_Request("POST", url, headers, form=form))

    async def post_json(
        self,
        url: str,
        document: bytes,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of the response to a JSON document.

        Args:
            url: where it is sent to.
            document: encoded.
            headers: further ones, such as Authorization.
            timeout_seconds: for the whole exchange: a server may answer late on purpose. None for
                ``FETCH_TIMEOUT_SECONDS``.

        Raises:
            FetchError: there is no response with status 200, 202 or 204; the message names the URL,
                and nothing of the document.
        """
        typed = {**headers, "Content-Type": "application/json"}
        seconds = FETCH_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        return await self._exchange(
            _Request("POST", url, typed, document=document, seconds=seconds)
        )

    async def _exchange(self, request: _Request) -> tuple[bytes, Mapping[str, str]]:
        url = request.url
        check_url(url)
        try:
            async with asyncio.timeout(request.seconds):
                servers = tls_context() if self.trust is None else self.trust.context()
                context = servers if self.identity is None else self._identified(url, self.identity)
                if self.proxy is not None:
                    self._check_through_proxy(url)
                    return await _exchange_through(request, self.proxy, context, servers)
                addresses = await self._vetted_addresses(url)
                return await _exchange_with_any(request, addresses, context)
        except TimeoutError:
            raise FetchError(
                f"{shown_url(url)}: no answer in {request.seconds:g} seconds",
                setting="proxy",
                failure=Failure.TIMEOUT,
            ) from None
        # In TLS 1.3 a server rejects the client's certificate after the handshake: httpx2 does not
        # wrap OpenSSL's error then.
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError) as error:
            detail = f"{shown_url(url)}: {self._through()}{explained(error)}"
            failure = failure_of(error)
            raise FetchError(detail, setting=setting_of(failure), failure=failure) from None

    def _identified(self, url: str, identity: ClientIdentity) -> ssl.SSLContext:
        """
        Raises:
            FetchError: the URL is not https, or the certificate cannot be used.
        """
        if urlsplit(url).scheme.lower() != "https":
            raise FetchError(f"{shown_url(url)}: a client's certificate needs https")
        try:
            return identity.context()
        except ClientIdentityError as error:
            raise FetchError(str(error), setting=error.setting) from None

    def _through(self) -> str:
        return "" if self.proxy is None else f"through the proxy {self.proxy.url}: "

    def _check_through_proxy(self, url: str) -> None:
        """What can be checked of a host that the proxy looks up.

        Raises:
            FetchError: the URL is not https, or its host is an address that is not permitted.
        """
        parts = urlsplit(url)
        if parts.scheme.lower() != "https":
            raise FetchError(f"{shown_url(url)}: only https goes through a proxy", setting="proxy")
        host = parts.hostname or ""
        with suppress(ValueError):
            self._check_address(url, host, ipaddress.ip_address(host))

    def _check_address(
        self, url: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address
    ) -> None:
        """
        Raises:
            FetchError: it is not public, and has to be; or it is this machine's.
        """
        if not self.allow_this_machine and is_this_machine(address):
            raise FetchError(f"{shown_url(url)}: leads to this machine", failure=Failure.ADDRESS)
        if not (self.allow_private_addresses or is_loopback(host) or is_public(address)):
            raise FetchError(
                f"{shown_url(url)}: {address} is not public; see allow_private_addresses",
                setting="allow_private_addresses",
                failure=Failure.ADDRESS,
            )

    async def _vetted_addresses(self, url: str) -> list[str]:
        """The addresses to connect to. They are used as checked: no second lookup can differ.

        If one address is not public, all are rejected: a mixed answer is likely an attack.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise FetchError(
                f"{shown_url(url)}: {lookup_fault(error)}", setting="proxy", failure=Failure.LOOKUP
            ) from None
        addresses = [ipaddress.ip_address(item[4][0]) for item in found]
        for address in addresses:
            self._check_address(url, host, address)
        return list(dict.fromkeys(map(str, addresses)))


def check_url(url: str) -> None:
    """
    Raises:
        FetchError: it is no URL, or neither https nor http on loopback. The message does not quote
            the URL, which may hold a secret.
    """
    if fault := endpoint_fault(url):
        raise FetchError(f"the URL is not an https URL (http is for loopback alone): it {fault}")


@dataclass(frozen=True, slots=True)
class _Request:
    """A request.

    Attributes:
        method: its method.
        url: where it is sent to.
        headers: further ones.
        form: what is sent as a form; None without one.
        document: what is sent as it is; None without one.
        seconds: for the whole exchange.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    form: Mapping[str, str] | None = None
    document: bytes | None = None
    seconds: float = field(default_factory=lambda: FETCH_TIMEOUT_SECONDS)

    @property
    def successes(self) -> frozenset[int]:
        """The statuses of answers to it that are no errors."""
        return frozenset({200} if self.document is None else {200, 202, 204})

    @property
    def sends(self) -> bool:
        """Whether it has a body."""
        return self.form is not None or self.document is not None


async def _exchange_with_any(
    request: _Request, addresses: Sequence[str], context: ssl.SSLContext
) -> tuple[bytes, Mapping[str, str]]:
    """Try the addresses one after the other: one family of ``localhost`` is often unreachable."""
    *others, last = addresses
    for address in others:
        try:
            return await _exchange_with(request, address, context)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            continue
    return await _exchange_with(request, last, context)


async def _exchange_with(
    request: _Request, address: str, context: ssl.SSLContext
) -> tuple[bytes, Mapping[str, str]]:
    parts = urlsplit(request.url)
    where = f"[{address}]" if ":" in address else address
    netloc = where if parts.port is None else f"{where}:{parts.port}"
    timeout = httpx2.Timeout(request.seconds, connect=CONNECT_TIMEOUT_SECONDS)
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=timeout) as http:
        return await _exchange(http, request, netloc)


async def _exchange_through(
    request: _Request, proxy: Proxy, context: ssl.SSLContext, of_proxy: ssl.SSLContext
) -> tuple[bytes, Mapping[str, str]]:
    """
    Args:
        request: what is sent.
        proxy: what it goes through.
        context: for TLS with the host.
        of_proxy: for TLS with the proxy, which is not shown the client's certificate.
    """
    async with httpx2.AsyncClient(
        verify=context,
        trust_env=False,
        proxy=proxy.transport(of_proxy),
        timeout=httpx2.Timeout(request.seconds),
    ) as http:
        return await _exchange(http, request, urlsplit(request.url).netloc)


async def _exchange(
    http: httpx2.AsyncClient, request: _Request, netloc: str
) -> tuple[bytes, Mapping[str, str]]:
    """
    Args:
        http: sends it.
        request: what is sent.
        netloc: where to: the URL's own host, or an address of it, and the port.
    """
    url = request.url
    parts = urlsplit(url)
    async with http.stream(
        request.method,
        urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, "")),
        headers={
            "Host": parts.netloc,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **request.headers,
        },
        data=request.form,
        content=request.document,
        follow_redirects=False,
        # The certificate is verified for the name; the connection may go to an address.
        extensions={"sni_hostname": parts.hostname},
    ) as answer:
        if answer.status_code not in request.successes:
            status = answer.status_code
            redirect = ", a redirect, which is not followed" if answer.has_redirect_location else ""
            raise FetchError(
                f"{shown_url(url)}: answered {status}{redirect}",
                status=status,
                body=await _beginning(answer) if request.sends else b"",
                retry_after=answer.headers.get("retry-after", ""),
            )
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            _check_length(url, body)
        encoding = answer.headers.get("content-encoding", "")
        return _unpacked(url, bytes(body), encoding), dict(answer.headers)


async def _beginning(answer: httpx2.Response) -> bytes:
    """The first bytes of an answer that is not used, as they are sent; what can be read of them."""
    body = bytearray()
    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
    return bytes(body[:MAX_ERROR_BYTES])


def _unpacked(url: str, body: bytes, encoding: str) -> bytes:
    """A body without its content coding; its length is checked while it is decompressed.

    The request accepts no coding. Some hosts store their documents compressed, and send them so.
    """
    stated = [coding.strip().lower() for coding in encoding.split(",")]
    codings = [coding for coding in stated if coding not in _NO_CODINGS]
    if not codings:
        return body
    if codings not in (["gzip"], ["x-gzip"]):
        raise FetchError(f"{shown_url(url)}: answered in the content coding {encoding[:50]!a}")
    unpacking = zlib.decompressobj(wbits=_GZIP)
    try:
        unpacked = unpacking.decompress(body, MAX_DOCUMENT_BYTES + 1)
    except zlib.error:
        raise FetchError(f"{shown_url(url)}: is not gzip, as its Content-Encoding says") from None
    _check_length(url, unpacked)
    if not unpacking.eof:
        raise FetchError(f"{shown_url(url)}: ends before its gzip does")
    if unpacking.unused_data:
        # Servers send one member. The first of several would be a part of a document.
        raise FetchError(f"{shown_url(url)}: goes on after its gzip")
    return unpacked


def _check_length(url: str, body: Sized) -> None:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise FetchError(f"{shown_url(url)}: is longer than {MAX_DOCUMENT_BYTES} bytes")
