"""The issuer of the tokens that every peer is shown."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://idp.example"
RESOURCE = "https://mcp.example/mcp"
ALGORITHM = "RS256"

TOKEN_SECONDS = 3_600
KEY_BITS = 2_048
KEY_ID = "bench"


@dataclass(frozen=True)
class Idp:
    """Signs with one RSA key, made anew for each run."""

    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(65_537, KEY_BITS), repr=False
    )

    def token(
        self, subject: str, role: str = "reader", *, age_seconds: int = 60, audience: str = RESOURCE
    ) -> str:
        """A token that ends an hour after it was issued, ``age_seconds`` ago."""
        issued = int(time.time()) - age_seconds
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": audience,
            "iat": issued,
            "exp": issued + TOKEN_SECONDS,
            "jti": secrets.token_hex(8),
            "client_id": "bench",
            "scope": "tools",
            "role": role,
            "roles": [role],
        }
        return jwt.encode(claims, self.key, ALGORITHM, headers={"kid": KEY_ID})

    def jwks(self) -> str:
        """The public key, as RFC 7517 has it."""
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": KEY_ID, "alg": ALGORITHM, "use": "sig"}]})

    def pem(self) -> str:
        """The public key, as PEM."""
        encoded = self.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return encoded.decode("ascii")
