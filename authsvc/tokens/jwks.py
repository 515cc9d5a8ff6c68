"""Fetching JWK Sets over HTTP, from a URL or from what an issuer's metadata names.

The issuer's metadata is somebody else's word on where to connect to, so every connection is checked
(server-side request forgery): HTTPS, a public address, no redirects, bounded in time and size.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx2

from authsvc.tokens.compact import parse_json_object
from authsvc.tokens.keys import KeyLoadError, KeySet, parse_jwks
from authsvc.tokens.sources import Fetched

MAX_DOCUMENT_BYTES = 512 * 1024
"""Longest document that is read."""

FETCH_TIMEOUT_SECONDS = 5.0
"""For a whole exchange, however slowly it drips."""

MIN_MAX_AGE_SECONDS = 60.0
MAX_MAX_AGE_SECONDS = 3600.0
DEFAULT_MAX_AGE_SECONDS = 300.0
"""How long keys are fresh: what Cache-Control says (RFC 9111 section 5.2.2.1), within bounds."""

_MAX_AGE = re.compile(r"\bmax-age=(\d{1,9})\b")


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches documents from hosts that may be connected to.

    Attributes:
        allow_private_addresses: whether addresses that are not public may be connected to; those of
            a URL that names loopback itself always may.
    """

    allow_private_addresses: bool = False

    async def get(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        """The document and its headers.

        Raises:
            KeyLoadError: it cannot be had; the message names the URL.
        """
        check_url(url)
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                address = await self._vetted_address(url)
                return await _get(url, address)
        except TimeoutError:
            raise KeyLoadError(f"{url}: no answer in {FETCH_TIMEOUT_SECONDS:g} seconds") from None
        except httpx2.HTTPError as error:
            raise KeyLoadError(f"{url}: {type(error).__name__}") from None

    async def _vetted_address(self, url: str) -> str:
        """The address to connect to: checked, and then used, so that no second look-up differs."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
        except OSError:
            raise KeyLoadError(f"{url}: the host has no address") from None
        addresses = [ipaddress.ip_address(item[4][0]) for item in found]
        if not self.allow_private_addresses and not is_loopback(host):
            for address in addresses:
                if not address.is_global or address.is_multicast:
                    raise KeyLoadError(
                        f"{url}: {address} is not public; see allow_private_addresses"
                    )
        return str(addresses[0])


async def fetch_jwks(fetcher: Fetcher, url: str, algorithms: Collection[str]) -> Fetched:
    """The keys at a URL.

    Raises:
        KeyLoadError: they cannot be had or are unfit.
    """
    document, headers = await fetcher.get(url)
    return Fetched(KeySet(parse_jwks(document, algorithms)), _max_age_seconds(headers))


async def fetch_discovered(fetcher: Fetcher, issuer: str, algorithms: Collection[str]) -> Fetched:
    """The keys that an issuer's metadata names (OpenID Connect Discovery section 4, RFC 8414).

    Raises:
        KeyLoadError: they cannot be had or are unfit, or the metadata is another issuer's.
    """
    failures = []
    for url in metadata_urls(issuer):
        try:
            document, _ = await fetcher.get(url)
            break
        except KeyLoadError as error:
            failures.append(str(error))
    else:
        raise KeyLoadError("; ".join(failures))
    try:
        metadata = parse_json_object(document)
    except ValueError:
        raise KeyLoadError(f"{url}: is not a JSON object") from None
    if metadata.get("issuer") != issuer:
        # RFC 8414 section 3.3: else anyone could speak for anyone.
        raise KeyLoadError(f"{url}: is the metadata of another issuer")
    jwks_uri = metadata.get("jwks_uri")
    if not isinstance(jwks_uri, str):
        raise KeyLoadError(f"{url}: names no jwks_uri")
    return await fetch_jwks(fetcher, jwks_uri, algorithms)


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where an issuer's metadata may be: OpenID Connect's place, then RFC 8414's (section 3)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    places = (
        f"{path}/.well-known/openid-configuration",
        f"/.well-known/oauth-authorization-server{path}",
    )
    first, second = (urlunsplit((parts.scheme, parts.netloc, place, "", "")) for place in places)
    return first, second


def check_url(url: str) -> None:
    """
    Raises:
        KeyLoadError: not HTTPS, and not loopback either.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise KeyLoadError(f"{url[:200]!r} is not a URL") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or ""))
    if not host or not secure or "@" in parts.netloc:
        raise KeyLoadError(f"{url[:200]!r} is not an https URL (http goes for loopback alone)")


def is_loopback(host: str) -> bool:
    """Whether a host as it is written means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _get(url: str, address: str) -> tuple[bytes, Mapping[str, str]]:
    parts = urlsplit(url)
    where = f"[{address}]" if ":" in address else address
    netloc = where if parts.port is None else f"{where}:{parts.port}"
    target = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    headers = {"Host": parts.netloc, "Accept": "application/json"}
    # The certificate is checked for the name, though the connection goes to the address.
    extensions = {"sni_hostname": parts.hostname}
    async with (
        httpx2.AsyncClient(trust_env=False, follow_redirects=False) as http,
        http.stream("GET", target, headers=headers, extensions=extensions) as answer,
    ):
        if answer.status_code != httpx2.codes.OK:
            raise KeyLoadError(f"{url}: answered {answer.status_code}")
        body = bytearray()
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise KeyLoadError(f"{url}: is longer than {MAX_DOCUMENT_BYTES} bytes")
        return bytes(body), dict(answer.headers)


def _max_age_seconds(headers: Mapping[str, str]) -> float:
    found = _MAX_AGE.search(headers.get("cache-control", ""))
    stated = float(found.group(1)) if found else DEFAULT_MAX_AGE_SECONDS
    return min(max(stated, MIN_MAX_AGE_SECONDS), MAX_MAX_AGE_SECONDS)
