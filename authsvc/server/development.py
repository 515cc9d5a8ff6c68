"""Mints development tokens, as an identity provider would, from ``[development]``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from authsvc.common.settings import ConfigError
from authsvc.server.config import Settings
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.minting import mint
from authsvc.tokens.secret_files import load_secret_file


def mint_token(
    settings: Settings, claims: Mapping[str, object], *, ttl_seconds: int, now: float
) -> str:
    """A token signed with the secret of the issuer in ``[development]``.

    Args:
        settings: with ``[development]``, and ``secret_file`` of its issuer.
        claims: of the token. ``[development]`` replaces empty ones.
        ttl_seconds: until it expires; negative for a token that expired so long ago.
        now: seconds since the epoch.

    Raises:
        ConfigError: ``[development]`` or the issuer's ``secret_file`` is missing.
    """
    development = settings.development
    if development is None:
        raise ConfigError("development: is required to mint tokens. Do not set it in production")
    issuer = next((item for item in settings.issuers if item.issuer == development.issuer), None)
    if issuer is None or issuer.secret_file is None:
        raise ConfigError("development.issuer: has to be an issuer with a secret_file")
    try:
        key = load_secret_file(issuer.secret_file, issuer.algorithms[0])
    except KeyLoadError as error:
        raise ConfigError(f"issuers[{issuer.issuer}].secret_file: {error}") from None
    defaults: dict[str, object] = {
        "aud": development.audience,
        "roles": development.roles,
        "buckets": development.buckets,
        "permissions": development.permissions,
        "scope": " ".join(development.scopes),
    }
    # Fractions of a second (RFC 7519 allows them) order tokens that are minted within a second.
    issue_time = round(now, 3) if ttl_seconds > 0 else round(now, 3) + ttl_seconds - 1
    payload = {
        "iss": development.issuer,
        **defaults,
        **{name: value for name, value in claims.items() if value},
        "iat": issue_time,
        "exp": round(now, 3) + ttl_seconds,
        "jti": secrets.token_urlsafe(12),
    }
    return mint(payload, key)
