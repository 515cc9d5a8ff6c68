"""HTTP requests to issuers, which are treated as hostile.

An issuer's metadata names the address to connect to (server-side request forgery), and its response
may be slow, huge or a redirect. A request goes to an HTTPS URL (HTTP on loopback) and a public
address, follows no redirect, and is bounded in time and size.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx2

from authsvc.net.addresses import is_loopback
from authsvc.net.failures import explained, lookup_fault
from authsvc.net.urls import endpoint_fault

MAX_DOCUMENT_BYTES = 512 * 1024
"""Longest document that is accepted."""

FETCH_TIMEOUT_SECONDS = 5.0
"""For a whole exchange, from the name lookup to the last byte."""

CONNECT_TIMEOUT_SECONDS = 2.0
"""For one address of a host that has several."""

_GZIP = 16 + zlib.MAX_WBITS
"""``wbits`` of zlib for the gzip format."""

_NO_CODINGS = frozenset({"", "identity", "utf-8", "aws-chunked"})
"""Values of Content-Encoding that leave a body unchanged. The last two are no content codings, but
some hosts send them: a charset in the wrong header, and the upload encoding of an object store."""

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_6TO4 = ipaddress.ip_network("2002::/16")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PROVIDERS = (
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.0/24"),
)
"""Metadata services of cloud providers, which return a machine's credentials, at addresses that
``ipaddress`` calls global. The other metadata services have addresses that it calls private."""


class FetchError(Exception):
    """A document cannot be fetched; the message names the URL where it holds no secret.

    Attributes:
        status: the HTTP status of the answer where it is another than 200; None where there is no
            answer, or none of use.
    """

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Sends requests to permitted addresses.

    Attributes:
        allow_private_addresses: whether addresses that are not public are permitted, too. For a URL
            whose host is loopback they always are.
    """

    allow_private_addresses: bool = False

    async def get(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        """A document and its headers.

        Raises:
            FetchError: it cannot be fetched; the message names the URL.
        """
        return await self._exchange("GET", url, {}, None)

    async def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[bytes, Mapping[str, str]]:
        """The body and the headers of the response to a form.

        Raises:
            FetchError: there is no response with status 200; the message names the URL, and nothing
                of the form.
        """
        return await self._exchange("POST", url, headers, form)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[bytes, Mapping[str, str]]:
        check_url(url)
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                addresses = await self._vetted_addresses(url)
                return await _exchange_with_any(method, url, addresses, headers, form)
        except TimeoutError:
            raise FetchError(f"{url}: no answer in {FETCH_TIMEOUT_SECONDS:g} seconds") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise FetchError(f"{url}: {explained(error)}") from None

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
            raise FetchError(f"{url}: {lookup_fault(error)}") from None
        addresses = [ipaddress.ip_address(item[4][0]) for item in found]
        if not self.allow_private_addresses and not is_loopback(host):
            for address in addresses:
                if not is_public(address):
                    raise FetchError(f"{url}: {address} is not public; see allow_private_addresses")
        return list(dict.fromkeys(map(str, addresses)))


def check_url(url: str) -> None:
    """
    Raises:
        FetchError: it is no URL, or neither https nor http on loopback. The message does not quote
            the URL, which may hold a secret.
    """
    if fault := endpoint_fault(url):
        raise FetchError(f"the URL is not an https URL (http is for loopback alone): it {fault}")


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to the public Internet.

    Stricter than ``is_global``, which accepts addresses that a gateway translates to private ones
    (6to4, NAT64), deprecated ranges, multicast, and metadata services of cloud providers.
    """
    if isinstance(address, ipaddress.IPv4Address):
        inside = any(address in network for network in _PROVIDERS)
        return address.is_global and not address.is_multicast and not inside
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address.is_global and address in _GLOBAL_UNICAST and address not in _6TO4


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Trust in the machine's certificate authorities. Loading them takes tens of milliseconds, so
    that is done once."""
    return httpx2.create_ssl_context(trust_env=False)


async def _exchange_with_any(
    method: str,
    url: str,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    form: Mapping[str, str] | None,
) -> tuple[bytes, Mapping[str, str]]:
    """Try the addresses one after the other: one family of ``localhost`` is often unreachable."""
    *others, last = addresses
    for address in others:
        try:
            return await _exchange(method, url, address, headers, form)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            continue
    return await _exchange(method, url, last, headers, form)


async def _exchange(
    method: str,
    url: str,
    address: str,
    headers: Mapping[str, str],
    form: Mapping[str, str] | None,
) -> tuple[bytes, Mapping[str, str]]:
    parts = urlsplit(url)
    where = f"[{address}]" if ":" in address else address
    netloc = where if parts.port is None else f"{where}:{parts.port}"
    target = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    async with (
        httpx2.AsyncClient(
            verify=tls_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(FETCH_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        ) as http,
        http.stream(
            method,
            target,
            headers={
                "Host": parts.netloc,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                **headers,
            },
            data=form,
            # The certificate is verified for the name; the connection goes to the address.
            extensions={"sni_hostname": parts.hostname},
        ) as answer,
    ):
        if answer.status_code != httpx2.codes.OK:
            status = answer.status_code
            redirect = ", a redirect, which is not followed" if answer.has_redirect_location else ""
            raise FetchError(f"{url}: answered {status}{redirect}", status=status)
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            _check_length(url, body)
        encoding = answer.headers.get("content-encoding", "")
        return _unpacked(url, bytes(body), encoding), dict(answer.headers)


def _unpacked(url: str, body: bytes, encoding: str) -> bytes:
    """A body without its content coding; its length is checked while it is decompressed.

    The request accepts no coding. Some hosts store their documents compressed, and send them so.
    """
    stated = [coding.strip().lower() for coding in encoding.split(",")]
    codings = [coding for coding in stated if coding not in _NO_CODINGS]
    if not codings:
        return body
    if codings not in (["gzip"], ["x-gzip"]):
        raise FetchError(f"{url}: answered in the content coding {encoding[:50]!a}")
    unpacking = zlib.decompressobj(wbits=_GZIP)
    try:
        unpacked = unpacking.decompress(body, MAX_DOCUMENT_BYTES + 1)
    except zlib.error:
        raise FetchError(f"{url}: is not gzip, as its Content-Encoding says") from None
    _check_length(url, unpacked)
    if not unpacking.eof:
        raise FetchError(f"{url}: ends before its gzip does")
    if unpacking.unused_data:
        # Servers send one member. The first of several would be a part of a document.
        raise FetchError(f"{url}: goes on after its gzip")
    return unpacked


def _check_length(url: str, body: Sized) -> None:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise FetchError(f"{url}: is longer than {MAX_DOCUMENT_BYTES} bytes")
