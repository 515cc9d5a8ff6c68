"""From ``[[issuers]]`` and ``[introspection]`` to token verifiers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from authsvc.common.config_faults import ConfigFaults
from authsvc.common.settings import ConfigError
from authsvc.server.clients import endpoint_of
from authsvc.server.config import IntrospectionSettings, IssuerSettings, Settings
from authsvc.server.egress import FetchSettings, fetcher_of
from authsvc.tokens import TokenVerifier
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.discovery import fetch_discovered, fetch_jwks
from authsvc.tokens.introspection import IntrospectionVerifier
from authsvc.tokens.introspection_answers import IntrospectedIssuer
from authsvc.tokens.jwk_set import load_jwks_file
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.router import TokenRouter
from authsvc.tokens.secret_files import SecretFiles, load_secret_file
from authsvc.tokens.sources import FetchedKeys, FileKeys, KeySource, table_of


class PublicKeySettings(FetchSettings, Protocol):
    """A table of an issuer with public keys."""

    @property
    def issuer(self) -> str:
        """Whose keys."""
        ...

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What they are for."""
        ...

    @property
    def jwks_file(self) -> Path | None:
        """A file with them."""
        ...

    @property
    def jwks_url(self) -> str | None:
        """The URL of them. With neither, it comes from the issuer's metadata."""
        ...

    @property
    def metadata_url(self) -> str | None:
        """The URL of the metadata, where it is at none of the usual places."""
        ...

    @property
    def keys_max_stale_seconds(self) -> float:
        """How long fetched keys stay valid."""
        ...


def issuer_of(settings: IssuerSettings) -> Issuer:
    """An issuer as configured. Files are read here. URLs are fetched by ``JwtVerifier.refresh``.

    Raises:
        ConfigError: files or a URL cannot be used: one line for each, which names the setting.
    """
    try:
        keys = _source(settings)
    except KeyLoadError as error:
        setting = error.setting or settings.key_setting
        raise ConfigError(f"issuers[{settings.issuer}].{setting}: {error}") from None
    return Issuer(
        issuer=settings.issuer,
        keys=keys,
        mapping=_mapping(settings),
        leeway_seconds=settings.leeway_seconds,
        required_claims=settings.required_claims,
        token_types=settings.accepted_types,
        audiences=Audiences(settings.audiences, settings.client_ids),
    )


def with_introspection(jwt: JwtVerifier, settings: Settings) -> TokenVerifier:
    """``jwt``, with a router to introspection if ``[introspection]`` is set.

    Raises:
        ConfigError: a file that it names cannot be used.
    """
    introspection = settings.introspection
    if introspection is None:
        return jwt
    verifier = introspection_of(introspection, max_token_bytes=settings.max_token_bytes)
    is_for_all = introspection.tokens == "all"
    return TokenRouter(
        jwt, verifier, introspects_jwts_of=introspection.issuer if is_for_all else ""
    )


def introspection_of(
    settings: IntrospectionSettings, *, max_token_bytes: int
) -> IntrospectionVerifier:
    """The verifier of ``[introspection]``.

    Raises:
        ConfigError: a file that it names cannot be used.
    """
    issuer = IntrospectedIssuer(
        settings.issuer,
        _mapping(settings),
        leeway_seconds=settings.leeway_seconds,
        audiences=Audiences(
            settings.audiences, settings.client_ids, is_optional=settings.audience_optional
        ),
        expiry_optional=settings.expiry_optional,
        token_type_optional=settings.token_type_optional,
    )
    endpoint = endpoint_of(settings, "introspection")
    return IntrospectionVerifier(issuer, endpoint, max_token_bytes=max_token_bytes)


def _mapping(settings: IssuerSettings | IntrospectionSettings) -> ClaimMapping:
    return settings.claims.mapping(
        settings.profile, allows_certificate_bound=settings.allow_certificate_bound
    )


def _source(settings: IssuerSettings) -> KeySource:
    if settings.secret_file is not None:
        _check_secrets(settings, settings.secret_file)
        files = (settings.secret_file, *settings.previous_secret_files)
        return FileKeys(files, SecretFiles(*files, algorithm=settings.algorithms[0]).load)
    return public_keys(settings, table_of(settings.issuer))


def _check_secrets(settings: IssuerSettings, current: Path) -> None:
    """
    Raises:
        ConfigError: files hold no secret that can be used: one line for each.
    """
    faults, table = ConfigFaults(), f"issuers[{settings.issuer}]"
    previous = [("previous_secret_files", path) for path in settings.previous_secret_files]
    for setting, path in (("secret_file", current), *previous):
        try:
            load_secret_file(path, settings.algorithms[0])
        except KeyLoadError as error:
            faults.add(f"{table}.{setting}: {error}")
    faults.check()


def public_keys(settings: PublicKeySettings, table: str) -> KeySource:
    """Public keys as configured: from a file, which is read here, or from a URL, which is not yet
    fetched.

    Args:
        settings: the table.
        table: its name, for errors.

    Raises:
        KeyLoadError: the file cannot be used.
        ConfigError: ``ca_file`` cannot be used.
    """
    algorithms = settings.algorithms
    if settings.jwks_file is not None:
        path = settings.jwks_file
        return FileKeys([path], partial(load_jwks_file, path, algorithms, issuer=settings.issuer))
    fetcher = fetcher_of(settings, table)
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
    return FetchedKeys(
        settings.issuer,
        fetch,
        max_stale_seconds=settings.keys_max_stale_seconds,
        url_setting="" if settings.jwks_url is None else "jwks_url",
        table=table,
    )
