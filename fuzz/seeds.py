"""Writes the corpus: ``python -m fuzz.seeds``. The files are the same each time."""

from __future__ import annotations

import base64
import json

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from fuzz import answer_seeds, checks, claims, discovery, http2, jwk_sets, signals
from fuzz.targets import CORPUS
from fuzz.tokens import EC_KEY, ED_KEY, NOW, RESOURCE, signed

CLAIMS = {"iss": "standard", "sub": "alice", "aud": RESOURCE, "iat": NOW, "exp": NOW + 600}
QUILT = {**CLAIMS, "iss": "quilt", "id": "alice", "p": ["g", "la"], "r": ["reader"], "s": "a b"}
PUBLISHED = {**CLAIMS, "iss": "published"}
HEADERS: dict[str, dict[str, object]] = {
    "crit": {"crit": ["exp"]},
    "zip": {"zip": "DEF"},
    "b64": {"b64": False},
    "nested": {"cty": "JWT"},
    "embedded": {
        "jwk": {"kty": "oct", "k": "AA"},
        "jku": "https://x.example",
        "x5u": "",
        "x5c": [],
    },
    "at-jwt": {"typ": "application/at+jwt"},
    "logout": {"typ": "logout+jwt"},
    "number": {"alg": 256},
    "kid-path": {"kid": "../../dev/null"},
    "kid-long": {"kid": "k" * 513},
    "kid-null": {"kid": None},
}
"""Headers by name. ``alg`` is HS256 unless they have another."""
PACKED = base64.b64encode(json.dumps(["one", "two"]).encode()).decode()


def seeds() -> dict[str, bytes]:
    """Inputs by name."""
    claims = {
        "standard": CLAIMS,
        "lists": {**CLAIMS, "roles": ["a"], "buckets": ["s3://b/c"], "permissions": ["x"]},
        "scp": {**CLAIMS, "scp": ["a", "b"], "azp": "client", "jti": "j", "nbf": NOW},
        "acting": {**CLAIMS, "act": {"sub": "agent", "iss": "https://i", "act": {"sub": "first"}}},
        "expired": {**CLAIMS, "exp": NOW - 600},
        "groups": {**QUILT, "b": {"_type": "groups", "_data": {"quilt": ["a"], "t": ["x-y"]}}},
        "patterns": {**QUILT, "b": {"_type": "patterns", "_data": {"quilt": ["a"], "t": ["b"]}}},
        "compressed": {**QUILT, "b": {"_type": "compressed", "_data": PACKED}},
        "nested": {**CLAIMS, "deep": [[[[{"a": [1.5, None, True]}]]]]},
    }
    encoded = {name: json.dumps(value).encode() for name, value in claims.items()}
    tokens = {f"token-{name}": signed(value) for name, value in encoded.items()}
    headers = {
        f"header-{name}": unsigned({"alg": "HS256", **header}, CLAIMS) + b".AA"
        for name, header in HEADERS.items()
    }
    malformed = {
        "none": unsigned({"alg": "none"}, {}) + b".",
        "two-segments": b"e30.e30",
        "five-segments": b"e30.e30.e30.e30.e30",
        "padding": b"e30=.e30=.AA==",
        "surrogate": b'{"iss":"standard","sub":"\\ud800"}',
        "duplicate": b'{"iss":"standard","iss":"quilt"}',
        "huge-integer": b'{"iss":"standard","exp":' + b"9" * 40 + b"}",
        "nan": b'{"iss":"standard","exp":NaN}',
        "bytes": b"\xed\xa0\x80.\xff.\x00",
    }
    return {**encoded, **tokens, **published(), **headers, **malformed}


def published() -> dict[str, bytes]:
    """Tokens of public keys: a valid one for each, and some with invalid signatures."""
    ec, ed = (
        unsigned({"alg": alg, "kid": kid}, PUBLISHED)
        for alg, kid in (("ES256", "ec"), ("EdDSA", "ed"))
    )
    numbers = decode_dss_signature(EC_KEY.sign(ec, ECDSA(SHA256(), deterministic_signing=True)))
    signature = b"".join(number.to_bytes(32) for number in numbers)  # RFC 7518 section 3.4
    return {
        "token-es256": ec + b"." + segment(signature),
        "token-eddsa": ed + b"." + segment(ED_KEY.sign(ed)),
        "es256-short": ec + b"." + segment(signature[:-1]),
        "es256-zero": ec + b"." + segment(bytes(64)),
        "eddsa-empty": ed + b".",
        "crossed": ed + b"." + segment(signature),
    }


def unsigned(header: dict[str, object], claims: dict[str, object]) -> bytes:
    """Header and claims, without a signature."""
    return b".".join(segment(json.dumps(part).encode()) for part in (header, claims))


def segment(data: bytes) -> bytes:
    """Canonical base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def corpora() -> dict[str, dict[str, bytes]]:
    """Inputs by target and name."""
    return {
        "tokens": seeds(),
        "introspection": answer_seeds.seeds(answer_seeds.INTROSPECTION),
        "exchange": answer_seeds.seeds(answer_seeds.EXCHANGE),
        "discovery": discovery.seeds(),
        "jwk_sets": jwk_sets.seeds(),
        "claims": answer_seeds.seeds(claims.CLAIMS),
        "http2": http2.seeds(),
        "checks": checks.seeds(),
        "signals": signals.seeds(),
    }


if __name__ == "__main__":
    for target, inputs in corpora().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)
