"""Tokens as an identity provider would issue them, made without any code of ours."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import jwt

from tests.support.clock import START

ISSUER = "https://idp.example"
RESOURCE = "https://mcp.example/mcp"
OTHER_RESOURCE = "https://other.example/mcp"
NOBODYS_DIGEST = hashlib.sha256(secrets.token_bytes()).hexdigest()
"""Of no service token."""


class IdentityProvider:
    """Signs with HS256.

    Args:
        clock: what ``iat`` is read from.
        issuer: claim ``iss``.
    """

    def __init__(self, clock: Callable[[], float] = lambda: START, issuer: str = ISSUER) -> None:
        self.clock = clock
        self.issuer = issuer
        self.secret = secrets.token_hex(32)

    def write_secret(self, folder: Path) -> Path:
        """The secret as the file that a configuration names."""
        path = folder / "secret"
        path.write_text(self.secret)
        path.chmod(0o600)
        return path

    def token(
        self,
        subject: str = "alice",
        *,
        ttl_seconds: float = 600,
        claims: Mapping[str, object] | None = None,
        **more: object,
    ) -> str:
        """A token with ``claims`` and ``more``; one of None is left out."""
        now = self.clock()
        payload = {
            "iss": self.issuer,
            "sub": subject,
            "aud": RESOURCE,
            "client_id": "client",
            "iat": now,
            "exp": now + ttl_seconds,
            "roles": ["reader"],
            "buckets": ["alpha", "beta"],
            "permissions": ["s3:ListBucket", "s3:GetObject"],
            "scope": "buckets.read objects.read",
            **(claims or {}),
            **more,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, self.secret, algorithm="HS256")

    def forged(self, subject: str = "alice") -> str:
        """A token that somebody else signed."""
        return IdentityProvider(self.clock, self.issuer).token(subject)
