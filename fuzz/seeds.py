"""Writes the corpus: ``python -m fuzz.seeds``. The same files each time."""

from __future__ import annotations

import base64
import json

from fuzz.tokens import CORPUS, NOW, RESOURCE, signed

CLAIMS = {"iss": "standard", "sub": "alice", "aud": RESOURCE, "iat": NOW, "exp": NOW + 600}
QUILT = {**CLAIMS, "iss": "quilt", "id": "alice", "p": ["g", "la"], "r": ["reader"], "s": "a b"}
PACKED = base64.b64encode(json.dumps(["one", "two"]).encode()).decode()


def seeds() -> dict[str, bytes]:
    """Inputs by name."""
    claims = {
        "standard": CLAIMS,
        "lists": {**CLAIMS, "roles": ["a"], "buckets": ["s3://b/c"], "permissions": ["x"]},
        "scp": {**CLAIMS, "scp": ["a", "b"], "azp": "client", "jti": "j", "nbf": NOW},
        "expired": {**CLAIMS, "exp": NOW - 600},
        "groups": {**QUILT, "b": {"_type": "groups", "_data": {"quilt": ["a"], "t": ["x-y"]}}},
        "patterns": {**QUILT, "b": {"_type": "patterns", "_data": {"quilt": ["a"], "t": ["b"]}}},
        "compressed": {**QUILT, "b": {"_type": "compressed", "_data": PACKED}},
        "nested": {**CLAIMS, "deep": [[[[{"a": [1.5, None, True]}]]]]},
    }
    encoded = {name: json.dumps(value).encode() for name, value in claims.items()}
    tokens = {f"token-{name}": signed(value) for name, value in encoded.items()}
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=")
    odd = {
        "none": header + b".e30.",
        "two-segments": b"e30.e30",
        "five-segments": b"e30.e30.e30.e30.e30",
        "padding": b"e30=.e30=.AA==",
        "surrogate": b'{"iss":"standard","sub":"\\ud800"}',
        "duplicate": b'{"iss":"standard","iss":"quilt"}',
        "huge-integer": b'{"iss":"standard","exp":' + b"9" * 40 + b"}",
        "nan": b'{"iss":"standard","exp":NaN}',
        "bytes": b"\xed\xa0\x80.\xff.\x00",
    }
    return {**encoded, **tokens, **odd}


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)
