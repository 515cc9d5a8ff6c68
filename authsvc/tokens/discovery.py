"""JWK Sets over HTTP: from a configured URL, or from the one that an issuer's metadata names."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

from authsvc.net.addresses import is_loopback
from authsvc.net.clocks import http_time
from authsvc.net.failures import Stage
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.net.urls import endpoint_fault, shown_url
from authsvc.tokens.documents import parse_document
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.sources import Fetched

MAX_JWKS_URI_LENGTH = 2_048
"""Characters of a jwks_uri, which error messages quote."""

MAX_QUOTED = 256
"""Characters of an issuer's text that error messages quote."""

MIN_MAX_AGE_SECONDS = 60.0
MAX_MAX_AGE_SECONDS = 3600.0
DEFAULT_MAX_AGE_SECONDS = 300.0
"""How long keys are fresh: by Cache-Control (RFC 9111 section 5.2.2.1), within these bounds."""

_MAX_AGE = re.compile(r"\bmax-age=(\d{1,9})\b")


async def fetch_jwks(
    fetcher: Fetcher, url: str, algorithms: Collection[str], *, issuer: str | None = None
) -> Fetched:
    """The keys at a URL; there may be no usable one, see ``parse_jwks``.

    Raises:
        KeyLoadError: they cannot be fetched, or are no JWK Set.
    """
    began = time.monotonic()
    document, headers = await _get(fetcher, url)
    answered = (began + time.monotonic()) / 2
    try:
        keys = parse_jwks(document, algorithms, issuer=issuer)
    except KeyLoadError as error:
        raise KeyLoadError(f"{shown_url(url)}: {error}", setting=error.setting) from None
    theirs = http_time(headers)
    return Fetched(
        keys, _max_age_seconds(headers), server_epoch=None if theirs is None else theirs - answered
    )


async def fetch_discovered(
    fetcher: Fetcher, issuer: str, algorithms: Collection[str], *, metadata_url: str | None = None
) -> Fetched:
    """The keys that an issuer's metadata names; see ``discover``.

    Raises:
        KeyLoadError: as ``discover``; or the keys cannot be fetched, or are no JWK Set.
    """
    metadata = await discover(fetcher, issuer, metadata_url=metadata_url)
    return await fetch_named_jwks(metadata, algorithms, issuer)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What was found of an issuer's metadata.

    Attributes:
        url: where it is.
        jwks_uri: where its keys are.
        passed_over: the places before it, each with what it answered.
        fetcher: fetches the keys. It never connects to this machine, unless the metadata is here.
    """

    url: str
    jwks_uri: str
    passed_over: tuple[str, ...]
    fetcher: Fetcher


async def discover(fetcher: Fetcher, issuer: str, *, metadata_url: str | None = None) -> Metadata:
    """An issuer's metadata (OpenID Connect Discovery section 4, RFC 8414).

    A place without usable metadata of this issuer is passed over. Once a place has it, the keys
    come from there: another place might name keys that have been withdrawn since.

    Args:
        fetcher: sends the requests.
        issuer: the issuer.
        metadata_url: the only place of its metadata; None for those of ``metadata_urls``.

    Raises:
        KeyLoadError: no place has metadata of this issuer. The message says what each answered.
    """
    passed_over: list[str] = []
    errors: list[KeyLoadError] = []
    for url in metadata_urls(issuer) if metadata_url is None else (metadata_url,):
        try:
            jwks_uri = await _jwks_uri(fetcher, url, issuer)
        except KeyLoadError as error:
            passed_over.append(str(error))
            errors.append(error)
        else:
            is_here = _may_lead_here(url, jwks_uri)
            keys_fetcher = replace(fetcher, allow_this_machine=is_here)
            return Metadata(url, jwks_uri, tuple(passed_over), keys_fetcher)
    raise KeyLoadError(
        "; ".join(passed_over),
        setting=_mending(errors),
        stage=_stage(errors),
    )


async def fetch_named_jwks(metadata: Metadata, algorithms: Collection[str], issuer: str) -> Fetched:
    """The keys at the ``jwks_uri`` of metadata.

    Raises:
        KeyLoadError: as ``fetch_jwks``. The message says which metadata names the URL. Where what
            answers has no keys, the setting is ``jwks_url``, which takes the place of metadata.
    """
    try:
        return await fetch_jwks(metadata.fetcher, metadata.jwks_uri, algorithms, issuer=issuer)
    except KeyLoadError as error:
        is_elsewhere = error.stage is Stage.ANSWER and not error.setting
        raise KeyLoadError(
            f"{error}; its URL is the jwks_uri of {shown_url(metadata.url)}",
            setting="jwks_url" if is_elsewhere else error.setting,
            stage=error.stage,
        ) from None


def _mending(errors: Collection[KeyLoadError]) -> str:
    """Of the settings that the places of an issuer's metadata ask for, the one that is surest.
    Empty where its certificate is to be mended."""
    settings = {error.setting for error in errors}
    of_url = "" if _stage(errors) is Stage.TLS else "metadata_url"
    return next((name for name in _BY_CERTAINTY if name in settings), of_url)


def _stage(errors: Collection[KeyLoadError]) -> Stage:
    """How far the requests to all places came."""
    stages = {error.stage for error in errors}
    return stages.pop() if len(stages) == 1 else Stage.ANSWER


_BY_CERTAINTY = ("issuer", "ca_file", "allow_private_addresses", "proxy")


async def _get(fetcher: Fetcher, url: str) -> tuple[bytes, Mapping[str, str]]:
    """
    Raises:
        KeyLoadError: the document cannot be fetched.
    """
    try:
        return await fetcher.get(url)
    except FetchError as error:
        raise KeyLoadError(str(error), setting=error.setting, stage=error.stage) from None


async def _jwks_uri(fetcher: Fetcher, url: str, issuer: str) -> str:
    """The ``jwks_uri`` of the metadata at ``url``.

    Raises:
        KeyLoadError: there is no usable metadata of that issuer.
    """
    document, headers = await _get(fetcher, url)
    try:
        return read_metadata(document, issuer, url)
    except ValueError as error:
        kind = headers.get("content-type", "").partition(";")[0]
        sent_as = f" (sent as {_quoted(kind)})" if kind and "json" not in kind.lower() else ""
        setting = "issuer" if isinstance(error, OtherIssuerError) else ""
        raise KeyLoadError(f"{shown_url(url)}: {error}{sent_as}", setting=setting) from None


class OtherIssuerError(ValueError):
    """Metadata names another issuer than the configured one, or none."""


def read_metadata(document: bytes, issuer: str, url: str) -> str:
    """The ``jwks_uri`` of an issuer's metadata.

    Args:
        document: what was fetched.
        issuer: the configured issuer.
        url: where it was fetched.

    Raises:
        ValueError: it is no metadata of that issuer, or names no URL that keys may be fetched from.
            The message continues a sentence that begins with ``url``.
    """
    metadata = parse_document(document, ("issuer", "jwks_uri"))
    if metadata.get("issuer") != issuer:
        # RFC 8414 section 3.3: otherwise one issuer could impersonate another.
        raise OtherIssuerError(_other_issuer(metadata.get("issuer"), issuer))
    jwks_uri = metadata.get("jwks_uri")
    if not isinstance(jwks_uri, str):
        raise ValueError("names no jwks_uri")
    if len(jwks_uri) > MAX_JWKS_URI_LENGTH:
        raise ValueError(f"its jwks_uri has more than {MAX_JWKS_URI_LENGTH} characters")
    if fault := endpoint_fault(jwks_uri):
        raise ValueError(
            f"its jwks_uri is not an https URL (http is for loopback alone): it {fault}"
        )
    if _names_this_machine(jwks_uri) and not _may_lead_here(url, jwks_uri):
        raise ValueError("its jwks_uri leads to this machine")
    return jwks_uri


def _other_issuer(found: object, issuer: str) -> str:
    """Why metadata is another issuer's, and which setting mends it."""
    if not isinstance(found, str):
        return "names no issuer"
    told = f"is the metadata of issuer {_quoted(found)}, which is not {_quoted(issuer)}"
    if "{tenantid}" in found.lower():
        return (
            f"{told}: it is a template for all tenants; set issuer to that of one tenant, and add "
            "one [[issuers]] for each"
        )
    if found.rstrip("/") == issuer.rstrip("/"):
        return f"{told}: they differ in the slash at the end; set issuer to {_quoted(found)}"
    return f"{told}; if the claim iss of its tokens is the former, set issuer to it"


def _quoted(text: str) -> str:
    """Text of an issuer for a message: bounded and printable."""
    quoted = repr(text)  # an escape has up to ten characters
    return quoted if len(quoted) <= MAX_QUOTED + 2 else f"{quoted[: MAX_QUOTED + 1]}...{quoted[0]}"


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """The URLs of an issuer's metadata, in the order of the MCP specification ("Authorization
    Server Metadata Discovery"): three if the issuer has a path, otherwise two.

    RFC 8414 section 3.1 inserts the well-known path before the issuer's, for OAuth metadata and
    then for OpenID Connect's. OpenID Connect Discovery section 4 appends it. The inserted places
    come first: clients look there first, too, and what serves one tenant's path cannot serve them.
    """
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    places = (
        f"/.well-known/oauth-authorization-server{path}",
        f"/.well-known/openid-configuration{path}",
        f"{path}/.well-known/openid-configuration",
    )
    urls = (urlunsplit((parts.scheme, parts.netloc, place, "", "")) for place in places)
    return tuple(dict.fromkeys(urls))


def _may_lead_here(url: str, jwks_uri: str) -> bool:
    """Whether keys may come from this machine. The configuration may name it, so that the metadata
    is here, or a host that is this machine; an issuer's metadata may not name another one."""
    host = urlsplit(url).hostname or ""
    return is_loopback(host) or host == urlsplit(jwks_uri).hostname


def _names_this_machine(url: str) -> bool:
    """Whether a host is this machine's by its name, which a proxy would look up (RFC 6761)."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return is_loopback(host) or host.endswith(".localhost")


def _max_age_seconds(headers: Mapping[str, str]) -> float:
    found = _MAX_AGE.search(headers.get("cache-control", ""))
    stated = float(found.group(1)) if found else DEFAULT_MAX_AGE_SECONDS
    return min(max(stated, MIN_MAX_AGE_SECONDS), MAX_MAX_AGE_SECONDS)
