"""The issuer of a run's tokens."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import jwt

ISSUER = "https://issuer.chaos.test"
RESOURCE = "https://mcp.chaos.test/mcp"
RECEIVER = "https://authsvc.chaos.test/signals"
TOKEN_SECONDS = 3_600.0

_DISABLED = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes:
        subject: its subject.
        number: counted from 1 in the order in which the subject's were issued.
        text: the JWT.
    """

    subject: str
    number: int
    text: str


NOBODY = Token("", 0, "")


class Issuer:
    """Signs with HS256."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(32)
        self._issued: dict[str, int] = {}

    def token(self, subject: str, *, resource: str = RESOURCE) -> Token:
        """A new token of a subject. Each has a later ``iat`` than the one before.

        Args:
            subject: claim ``sub``.
            resource: claim ``aud``.
        """
        number = self._issued.get(subject, 0) + 1
        self._issued[subject] = number
        now = time.time()
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": resource,
            "client_id": "chaos",
            "jti": secrets.token_urlsafe(12),
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "roles": ["reader"],
            "buckets": [f"bucket-{index}" for index in range(8)],
            "permissions": ["s3:GetObject", "s3:ListBucket"],
        }
        return Token(subject, number, jwt.encode(claims, self._secret, "HS256"))

    def signal(self, subject: str) -> str:
        """A security event token (RFC 8417): a subject's account was disabled."""
        claims = {
            "iss": ISSUER,
            "aud": RECEIVER,
            "jti": secrets.token_urlsafe(12),
            "iat": time.time(),
            "sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": subject},
            "events": {_DISABLED: {}},
        }
        return jwt.encode(claims, self._secret, "HS256", {"typ": "secevent+jwt"})

    def adopt(self, path: Path) -> None:
        """Sign with the secret in a file from now on."""
        self._secret = path.read_text(encoding="ascii").strip()

    def write_secret(self, path: Path) -> None:
        """Write the secret to the file that the configuration names."""
        path.touch(0o600)
        path.write_text(self._secret, encoding="ascii")
