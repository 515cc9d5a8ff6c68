"""The fuzzed function: an issuer's metadata. It runs without a fuzzer, too."""

from __future__ import annotations

import json
from collections.abc import Mapping

from authsvc.net.addresses import is_loopback
from authsvc.net.fetching import FetchError, check_url
from authsvc.net.urls import read
from authsvc.tokens.discovery import MAX_JWKS_URI_LENGTH, read_metadata

ISSUER = "https://idp.example/tenant1"
PLACE = "https://idp.example/.well-known/openid-configuration/tenant1"
METADATA: Mapping[str, object] = {
    "issuer": ISSUER,
    "jwks_uri": "https://idp.example/jwks",
    "authorization_endpoint": "https://idp.example/authorize",
    "scopes_supported": ["openid"],
}
ODD_URIS = (
    *("", "x", "/jwks", "//idp.example/jwks", "file:///etc/passwd", "http://idp.example/jwks"),
    *(
        "https://127.0.0.1/jwks",
        "http://localhost:1/jwks",
        "https://[::1]/jwks",
        "https://2130706433/",
    ),
    *("https://user:hush@idp.example/", "https://idp.example/#x", "https://a/" + "b" * 4_000),
    *(
        "https://idp.example\n/jwks",
        "https://[::1/jwks",
        "https://idp.example:0/",
        "https://\ud800/",
    ),
)


def metadata_verdict(data: bytes) -> str:
    """Why metadata is not used; empty if it names where the keys are.

    Any other exception is a finding, and so is a URL that must not be fetched.
    """
    try:
        jwks_uri = read_metadata(data, ISSUER, PLACE)
    except ValueError as error:
        told = str(error)
        _demand(told.isprintable(), "a message that is not printable")
        _demand(len(told) < 1_000, "a message of any length")
        return told
    try:
        check_url(jwks_uri)
    except FetchError:
        raise AssertionError("a URL that is not fetched") from None
    _demand(not is_loopback(read(jwks_uri).host), "a URL of this machine")
    _demand(len(jwks_uri) <= MAX_JWKS_URI_LENGTH, "a URL of any length")
    return ""


def _demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def seeds() -> dict[str, bytes]:
    """The inputs that are kept as files, by name."""
    uris = {f"uri-{number}": {**METADATA, "jwks_uri": uri} for number, uri in enumerate(ODD_URIS)}
    odd = {
        "good": METADATA,
        "template": {**METADATA, "issuer": "https://idp.example/{tenantid}"},
        "slash": {**METADATA, "issuer": f"{ISSUER}/"},
        "no-issuer": {"jwks_uri": "https://idp.example/jwks"},
        "no-jwks": {"issuer": ISSUER},
        "escapes": {**METADATA, "issuer": "\x1b[2J\u202e\ud800"},
        "long-when-escaped": {**METADATA, "issuer": "\0" * 300},
        **uris,
    }
    texts = {
        "twice": b'{"issuer": "a", "issuer": "b"}',
        "html": b"<!doctype html>",
        "list": b"[]",
        "bytes": bytes(range(256)),
        "utf-16": json.dumps(METADATA).encode("utf-16"),
        "nested": b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}",
        "huge-integer": b'{"issuer": ' + b"9" * 5_000 + b"}",
    }
    return {name: json.dumps(value).encode() for name, value in odd.items()} | texts
