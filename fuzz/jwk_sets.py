"""The fuzzed function: the keys of a JWK Set. It runs without a fuzzer, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.algorithms import ALGORITHMS
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import MAX_KEYS, KeyLoadError, KeySet

ISSUER = "https://idp.example"
PUBLIC = [name for name, algorithm in ALGORITHMS.items() if not algorithm.is_symmetric]

GOOD: Mapping[str, object] = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "good",
    "alg": "ES256",
    "use": "sig",
    # RFC 7515 appendix A.3.1.
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
OTHER: Mapping[str, object] = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "other",
    # RFC 8037 appendix A.2.
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


def jwk_set_verdict(data: bytes) -> str:
    """Why a JWK Set has no usable key; empty if it has one.

    Any other exception is a finding, and so is an entry that takes another's key away.
    """
    try:
        keys = parse_jwks(data, PUBLIC, issuer=ISSUER)
    except KeyLoadError as error:
        _check_text(str(error))
        return str(error)
    for entry in keys.skipped:
        _check_text(str(entry))
    for key in keys.keys:
        assert not ALGORITHMS[key.algorithm].is_symmetric
        assert _finds(keys, key.kid, key.algorithm)
    assert len(keys.keys) <= MAX_KEYS * len(PUBLIC)
    return "" if keys.keys else "no key"


def beside_a_good_key(data: bytes) -> bytes:
    """A JWK Set of any JSON value and a key that no such value may take away."""
    return b'{"keys": [' + data + b", " + json.dumps(OTHER).encode() + b"]}"


def _finds(keys: KeySet, kid: str | None, algorithm: str) -> bool:
    try:
        found = keys.find(kid, algorithm)
    except AuthError as error:
        # Several keys without a name: none is guessed.
        return kid is None and error.reason is Reason.TOKEN_KEY_UNKNOWN
    return (found.kid, found.algorithm) == (kid, algorithm)


def _check_text(text: str) -> None:
    assert text.isprintable()
    assert len(text) < 1_000


def odd_entries() -> Iterator[bytes]:
    """The good key with each odd value in the place of each member."""
    odd: tuple[object, ...] = (None, True, 7, 1e300, "", "x", "\ud800", "A" * 3_000, [], {}, [[]])
    for member in (*GOOD, "d", "k", "n", "e", "key_ops", "x5c", "issuer", "x5t#S256"):
        for value in odd:
            yield json.dumps({**GOOD, member: value}).encode()
        yield json.dumps({name: it for name, it in GOOD.items() if name != member}).encode()


def seeds() -> dict[str, bytes]:
    """The inputs that are kept as files, by name."""
    sets: dict[str, object] = {
        "good": {"keys": [GOOD, OTHER]},
        "twice": {"keys": [GOOD, GOOD]},
        "private": {"keys": [{**OTHER, "d": "AA"}]},
        "symmetric": {"keys": [{"kty": "oct", "k": "AA"}]},
        "odd": {"keys": [None, 1, "x", [], {}, GOOD]},
        "rsa": {"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]},
        "empty": {"keys": []},
        "no-keys": {},
        "list": [GOOD],
    }
    texts = {
        "member-twice": b'{"keys": [{"kty": "EC", "kty": "RSA"}]}',
        "keys-twice": b'{"keys": [], "keys": []}',
        "html": b"<!doctype html>",
        "bytes": bytes(range(256)),
        "utf-16": json.dumps({"keys": [GOOD]}).encode("utf-16"),
        "nested": b'{"keys": [' + b"[" * 300 + b"]" * 300 + b"]}",
        "huge-integer": b'{"keys": [{"kty": "EC", "x": ' + b"9" * 5_000 + b"}]}",
    }
    return {name: json.dumps(value).encode() for name, value in sets.items()} | texts
