"""From ``[[issuers]]`` and ``[introspection]`` to token verifiers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.common.settings import ConfigError
from authsvc.domain.resolution import Secret
from authsvc.net.fetching import FetchError
from authsvc.server.config import IssuerSettings, Settings
from authsvc.server.egress import fetcher_of
from authsvc.tokens import TokenVerifier
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.discovery import fetch_discovered, fetch_jwks
from authsvc.tokens.introspection import IntrospectionVerifier
from authsvc.tokens.jwk_set import load_jwks_file
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.router import TokenRouter
from authsvc.tokens.secret_files import SecretFiles
from authsvc.tokens.sources import FetchedKeys, FileKeys, KeySource


def issuer_of(settings: IssuerSettings) -> Issuer:
    """An issuer as configured. Files are read here. URLs are fetched by ``JwtVerifier.refresh``.

    Raises:
        ConfigError: a file or URL cannot be used. The message names the setting.
    """
    try:
        keys = _source(settings)
    except KeyLoadError as error:
        raise ConfigError(f"issuers[{settings.issuer}].{settings.key_setting}: {error}") from None
    return Issuer(
        issuer=settings.issuer,
        keys=keys,
        mapping=ClaimMapping(settings.profile, settings.subject_claim),
        leeway_seconds=settings.leeway_seconds,
        required_claims=settings.required_claims,
        token_types=settings.accepted_types,
        audiences=settings.audiences,
    )


def with_introspection(jwt: JwtVerifier, settings: Settings) -> TokenVerifier:
    """``jwt``, with a router to introspection if ``[introspection]`` is set.

    Raises:
        ConfigError: its endpoint or its secret cannot be used.
    """
    introspection = settings.introspection
    if introspection is None:
        return jwt
    client_secret = partial(_client_secret, introspection.client_secret_file)
    try:
        client_secret()
        opaque = IntrospectionVerifier(
            issuer=introspection.issuer,
            endpoint=introspection.endpoint,
            client_id=introspection.client_id,
            client_secret=client_secret,
            mapping=ClaimMapping(introspection.profile, introspection.subject_claim),
            leeway_seconds=introspection.leeway_seconds,
            audiences=introspection.audiences,
            max_token_bytes=settings.max_token_bytes,
            fetcher=fetcher_of(introspection, "introspection"),
        )
    except (FetchError, SecretFileError) as error:
        raise ConfigError(f"introspection: {error}") from None
    return TokenRouter(jwt, opaque)


def _client_secret(path: Path) -> Secret:
    """
    Raises:
        SecretFileError: the file holds none.
    """
    return Secret(read_secret_file(path))


def _source(settings: IssuerSettings) -> KeySource:
    algorithms = settings.algorithms
    if settings.secret_file is not None:
        files = (settings.secret_file, *settings.previous_secret_files)
        return FileKeys(files, SecretFiles(*files).load)
    if settings.jwks_file is not None:
        path = settings.jwks_file
        return FileKeys([path], partial(load_jwks_file, path, algorithms, issuer=settings.issuer))
    fetcher = fetcher_of(settings, f"issuers[{settings.issuer}]")
    if settings.jwks_url is not None:
        fetch = partial(fetch_jwks, fetcher, settings.jwks_url, algorithms, issuer=settings.issuer)
    else:
        fetch = partial(
            fetch_discovered,
            fetcher,
            settings.issuer,
            algorithms,
            metadata_url=settings.metadata_url,
        )
    return FetchedKeys(settings.issuer, fetch, max_stale_seconds=settings.keys_max_stale_seconds)
