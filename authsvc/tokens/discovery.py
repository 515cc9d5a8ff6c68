"""JWK Sets over HTTP, from a URL or from what an issuer's metadata names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit, urlunsplit

from authsvc.net.addresses import is_loopback
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.tokens.documents import parse_document
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.sources import Fetched

MAX_JWKS_URI_LENGTH = 2_048
"""Characters of a jwks_uri: failures quote it."""

MIN_MAX_AGE_SECONDS = 60.0
MAX_MAX_AGE_SECONDS = 3600.0
DEFAULT_MAX_AGE_SECONDS = 300.0
"""How long keys are fresh: what Cache-Control says (RFC 9111 section 5.2.2.1), within bounds."""

_MAX_AGE = re.compile(r"\bmax-age=(\d{1,9})\b")


async def fetch_jwks(fetcher: Fetcher, url: str, algorithms: Collection[str]) -> Fetched:
    """The keys at a URL; there may be none that can be used, see ``parse_jwks``.

    Raises:
        KeyLoadError: they cannot be had, or are no JWK Set.
    """
    document, headers = await _get(fetcher, url)
    try:
        keys = parse_jwks(document, algorithms)
    except KeyLoadError as error:
        raise KeyLoadError(f"{url}: {error}") from None
    return Fetched(keys, _max_age_seconds(headers))


async def fetch_discovered(fetcher: Fetcher, issuer: str, algorithms: Collection[str]) -> Fetched:
    """The keys that an issuer's metadata names (OpenID Connect Discovery section 4, RFC 8414).

    Raises:
        KeyLoadError: they cannot be had or are no JWK Set, or the metadata is another issuer's, or
            leads from elsewhere to this machine.
    """
    failures = []
    for url in metadata_urls(issuer):
        try:
            jwks_uri = await _jwks_uri(fetcher, url, issuer)
            break
        except KeyLoadError as error:
            failures.append(str(error))
    else:
        raise KeyLoadError("; ".join(failures))
    if _on_loopback(jwks_uri) and not _on_loopback(issuer):
        # Loopback goes for who configures it, and not for who is asked.
        raise KeyLoadError(f"{url}: leads to this machine")
    return await fetch_jwks(fetcher, jwks_uri, algorithms)


async def _get(fetcher: Fetcher, url: str) -> tuple[bytes, Mapping[str, str]]:
    """
    Raises:
        KeyLoadError: the document cannot be fetched.
    """
    try:
        return await fetcher.get(url)
    except FetchError as error:
        raise KeyLoadError(str(error)) from None


async def _jwks_uri(fetcher: Fetcher, url: str, issuer: str) -> str:
    """Where the metadata at ``url`` says that the keys are.

    Raises:
        KeyLoadError: there is no metadata of that issuer, or it does not say, or at too great a
            length.
    """
    document, _ = await _get(fetcher, url)
    try:
        metadata = parse_document(document, ("issuer", "jwks_uri"))
    except ValueError as error:
        raise KeyLoadError(f"{url}: {error}") from None
    if metadata.get("issuer") != issuer:
        # RFC 8414 section 3.3: else anyone could speak for anyone.
        raise KeyLoadError(f"{url}: is the metadata of another issuer")
    jwks_uri = metadata.get("jwks_uri")
    if not isinstance(jwks_uri, str):
        raise KeyLoadError(f"{url}: names no jwks_uri")
    if len(jwks_uri) > MAX_JWKS_URI_LENGTH:
        raise KeyLoadError(f"{url}: its jwks_uri has more than {MAX_JWKS_URI_LENGTH} characters")
    return jwks_uri


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


def _on_loopback(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False  # no URL at all, which is for the fetch to say


def _max_age_seconds(headers: Mapping[str, str]) -> float:
    found = _MAX_AGE.search(headers.get("cache-control", ""))
    stated = float(found.group(1)) if found else DEFAULT_MAX_AGE_SECONDS
    return min(max(stated, MIN_MAX_AGE_SECONDS), MAX_MAX_AGE_SECONDS)
