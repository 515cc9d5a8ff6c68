"""The fuzzed function: the verification of a token. It runs without a fuzzer, too."""

from __future__ import annotations

import asyncio

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authsvc.domain.errors import AuthError
from authsvc.domain.tokens import BearerToken
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey

NOW = 1_800_000_000.0
RESOURCE = "https://mcp.example/mcp"
SECRET = "f" * 32
EC_KEY = derive_private_key(int.from_bytes(SECRET[1:].encode()), SECP256R1())
ED_KEY = Ed25519PrivateKey.from_private_bytes(SECRET.encode())

_LOOP = asyncio.new_event_loop()
_KEYS = KeySet((VerificationKey(None, "HS256", SECRET.encode()),))
_PUBLISHED = KeySet(
    (
        VerificationKey("ec", "ES256", EC_KEY.public_key()),
        VerificationKey("ed", "EdDSA", ED_KEY.public_key()),
    )
)
_VERIFIER = JwtVerifier(
    [
        Issuer("standard", _KEYS),
        Issuer("published", _PUBLISHED),
        Issuer("quilt", _KEYS, mapping=ClaimMapping.of("quilt", subject=(ClaimPath("id"),))),
    ],
    cache_size=1,
)


def verdict(data: bytes) -> str:
    """The reason for which a token is rejected; empty if it is valid.

    Any other exception is a finding.
    """
    token = data.decode("utf-8", "surrogateescape")
    try:
        _LOOP.run_until_complete(_VERIFIER.verify(BearerToken(token), resource=RESOURCE, now=NOW))
    except AuthError as error:
        return error.reason.name
    return ""


def signed(payload: bytes) -> bytes:
    """A token with any bytes as claims and a valid signature."""
    return jwt.api_jws.encode(payload, SECRET, "HS256").encode()
