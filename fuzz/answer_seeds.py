"""The corpus of answers: good ones, and each with an odd value in the place of each member."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from fuzz.answers import ISSUER
from fuzz.tokens import NOW, RESOURCE

INTROSPECTION: Mapping[str, object] = {
    "active": True,
    "iss": ISSUER,
    "sub": "alice",
    "aud": [RESOURCE],
    "exp": NOW + 600,
    "iat": NOW,
    "nbf": NOW,
    "jti": "j1",
    "scope": "a b",
    "client_id": "client",
    "token_type": "Bearer",
    "token_use": "access_token",
    "typ": "Bearer",
    "roles": ["reader"],
    "buckets": ["alpha"],
    "permissions": ["s3:GetObject"],
    "act": {"sub": "agent", "act": {"sub": "first"}},
}
EXCHANGE: Mapping[str, object] = {
    "access_token": "the-apis-token",
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "another",
    "scope": "a b",
    "error": "invalid_grant",
}

ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e300, 10**31),
    *("", " ", "x", "1800000600", "-1", "1e9", "0x1", "\u0663", "\x00", "\ud800", "a" * 70_000),
    *([], [None], [1], ["x"], [[]], {}, {"x": None}, {"_type": "groups"}),
)
"""Values of every type of JSON, and strings that some readers take for something else."""

TEXTS = (
    *(b"", b"null", b"true", b"1", b'"x"', b"[]", b"{", b"[" * 5_000, b"\xff", b"<html>"),
    *(b'{"active":true,"active":false}', b'\xef\xbb\xbf{"active":false}', b'{"exp":NaN}'),
)
"""Answers that are no JSON object, or a questionable one."""


def odd_answers(good: Mapping[str, object]) -> Iterator[bytes]:
    """The good answer; each without one member; each odd value in the place of each member."""
    yield _encoded(good)
    for name in good:
        yield _encoded({key: value for key, value in good.items() if key != name})
        for odd in ODD:
            yield _encoded({**good, name: odd})
    yield from TEXTS


def seeds(good: Mapping[str, object]) -> dict[str, bytes]:
    """The inputs that are kept as files, by name."""
    without = {name: value for name, value in good.items() if name != "error"}
    texts = {f"text-{number}": text for number, text in enumerate(TEXTS) if len(text) < 100}
    nulls = {name: None if name not in ("active", "access_token") else good[name] for name in good}
    return {
        "good": _encoded(without),
        "nulls": _encoded(nulls),
        "strings": _encoded({**without, "exp": "1800000600", "expires_in": "3600"}),
        "extra": _encoded({**without, "ext": {"deep": [[{"x": [None, 1.5]}]]}}),
        "error": _encoded({"error": "invalid_client", "error_description": "x"}),
        "inactive": _encoded({"active": False}),
        **texts,
    }


def _encoded(answer: Mapping[str, object]) -> bytes:
    return json.dumps(answer).encode()
