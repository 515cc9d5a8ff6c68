"""JWK Sets over HTTP: from a configured URL, or from the one that an issuer's metadata names."""

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
"""Characters of a jwks_uri, which error messages quote."""

MIN_MAX_AGE_SECONDS = 60.0
MAX_MAX_AGE_SECONDS = 3600.0
DEFAULT_MAX_AGE_SECONDS = 300.0
"""How long keys are fresh: by Cache-Control (RFC 9111 section 5.2.2.1), within these bounds."""

_MAX_AGE = re.compile(r"\bmax-age=(\d{1,9})\b")


async def fetch_jwks(fetcher: Fetcher, url: str, algorithms: Collection[str]) -> Fetched:
    """The keys at a URL; there may be no usable one, see ``parse_jwks``.

    Raises:
        KeyLoadError: they cannot be fetched, or are no JWK Set.
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
        KeyLoadError: they cannot be fetched or are no JWK Set, or the metadata is another issuer's,
            or a remote issuer's metadata names an address of this machine.
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
        # Only the configuration may name an address of this machine, not an issuer's metadata.
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
    """The ``jwks_uri`` of the metadata at ``url``.

    Raises:
        KeyLoadError: there is no metadata of that issuer, or it has no ``jwks_uri``, or too long a
            one.
    """
    document, _ = await _get(fetcher, url)
    try:
        metadata = parse_document(document, ("issuer", "jwks_uri"))
    except ValueError as error:
        raise KeyLoadError(f"{url}: {error}") from None
    if metadata.get("issuer") != issuer:
        # RFC 8414 section 3.3: otherwise one issuer could impersonate another.
        raise KeyLoadError(f"{url}: is the metadata of another issuer")
    jwks_uri = metadata.get("jwks_uri")
    if not isinstance(jwks_uri, str):
        raise KeyLoadError(f"{url}: names no jwks_uri")
    if len(jwks_uri) > MAX_JWKS_URI_LENGTH:
        raise KeyLoadError(f"{url}: its jwks_uri has more than {MAX_JWKS_URI_LENGTH} characters")
    return jwks_uri


def metadata_urls(issuer: str) -> tuple[str, str]:
    """The URLs of an issuer's metadata: by OpenID Connect, then by RFC 8414 (section 3)."""
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
        return False  # it is no URL, which the fetch reports


def _max_age_seconds(headers: Mapping[str, str]) -> float:
    found = _MAX_AGE.search(headers.get("cache-control", ""))
    stated = float(found.group(1)) if found else DEFAULT_MAX_AGE_SECONDS
    return min(max(stated, MIN_MAX_AGE_SECONDS), MAX_MAX_AGE_SECONDS)
