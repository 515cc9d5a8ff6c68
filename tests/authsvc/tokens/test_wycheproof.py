"""Test vectors of project Wycheproof: each verdict agrees, or is listed below with the reason.

They are C2SP/wycheproof's, in its folder ``testvectors_v1``. Their payloads are no claims, so they
take the path of a token as far as the signature: parse, find the key, verify.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from authsvc.domain.errors import AuthError
from authsvc.tokens.algorithms import ALGORITHMS
from authsvc.tokens.compact import parse_jws
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import KeyLoadError, KeySet, VerificationKey

FOLDER = Path(os.environ.get("WYCHEPROOF_DIR") or Path(__file__).parents[4] / "shared" / "vectors")
if not FOLDER.is_dir():
    pytest.skip(
        "no vectors: clone github.com/C2SP/wycheproof and set WYCHEPROOF_DIR to its testvectors_v1",
        allow_module_level=True,
    )

MISNAMED = "the key's own alg is not the token's, and a key has one algorithm"
SPELLING = "has a character that a lax decoder skips; one token has one spelling"

REFUSED_ON_PURPOSE: Mapping[str, Mapping[int, str]] = {
    "json_web_signature_test.json": {
        **dict.fromkeys((346, 350), MISNAMED),  # PS384 with a key for PS256
        **dict.fromkeys((347, 351), MISNAMED),  # ES512 with a key for "ES521", which is none
        **dict.fromkeys((372, 373), SPELLING),
    },
}
"""Cases that the vectors call valid and we reject, by file and tcId."""

SAME_AS_A_VALID_ONE: Mapping[str, Mapping[int, int]] = {
    "json_web_signature_test.json": {367: 357, 370: 357},
}
"""What the vectors call invalid though it is, byte for byte and key for key, another that they
call valid (C2SP/wycheproof issue 236). Nobody can agree with both. Nothing else that is invalid
passes."""


@dataclass(frozen=True)
class Vector:
    """One case: a token, the key that it is for, and whether it should pass."""

    file: str
    tc_id: int
    comment: str
    token: str
    jwk: Mapping[str, Any]
    valid: bool

    def __str__(self) -> str:
        return f"{self.file.split('_')[2]}-{self.tc_id}-{self.comment}"


def vectors(file: str) -> Iterator[Vector]:
    for group in json.loads((FOLDER / file).read_text())["testGroups"]:
        jwk = group.get("public", group["private"])
        for test in group["tests"]:
            token = test["jws"] if "jws" in test else test["jwe"]  # some are empty
            if not isinstance(token, str):  # JSON serialisation (RFC 7515 section 7.2)
                token = json.dumps(token)
            valid = test["result"] == "valid" and "jws" in test  # here a JWE never is
            yield Vector(file, test["tcId"], test["comment"], token, jwk, valid)


def key_set(jwk: Mapping[str, Any]) -> KeySet:
    """The vector's key or keys, as an issuer's: secrets one by one, as files are, or a JWK Set."""
    jwks: Iterable[Mapping[str, Any]] = jwk.get("keys", [jwk])
    if all(item["kty"] == "oct" for item in jwks):
        return KeySet(tuple(map(secret, jwks)))
    # Where the key leaves it open, the issuer's configuration has to name one algorithm.
    stated = all("alg" in item for item in jwks)
    every = [name for name, algorithm in ALGORITHMS.items() if not algorithm.is_symmetric]
    algorithms = every if stated else ("RS256", "ES256")
    return parse_jwks(json.dumps({"keys": list(jwks)}).encode(), algorithms)


def secret(jwk: Mapping[str, Any]) -> VerificationKey:
    return VerificationKey(jwk["kid"], jwk["alg"], base64.urlsafe_b64decode(jwk["k"] + "=="))


def accepted(vector: Vector) -> bool:
    """Our verdict. Whatever else is raised fails the test."""
    try:
        keys = key_set(vector.jwk)
        jws = parse_jws(vector.token)
        key = keys.find(jws.key_id, jws.algorithm)
    except (AuthError, KeyLoadError):
        return False
    return key.verifies(jws.signing_input, jws.signature)


FILES = {
    "json_web_signature_test.json": 401,
    "json_web_key_test.json": 26,
    "json_web_crypto_test.json": 83,
    "json_web_encryption_test.json": 139,
}
"""How many cases there are in each; with fewer, something would go untested."""

VECTORS = {(vector.file, vector.tc_id): vector for file in FILES for vector in vectors(file)}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=str)
def test_verdict(vector: Vector) -> None:
    expected = vector.valid
    if vector.tc_id in REFUSED_ON_PURPOSE.get(vector.file, {}):
        assert vector.valid, "an exception that is none"
        expected = False
    twin = SAME_AS_A_VALID_ONE.get(vector.file, {}).get(vector.tc_id)
    if twin is not None:
        valid_one = VECTORS[vector.file, twin]
        assert (vector.token, vector.jwk, valid_one.valid) == (valid_one.token, valid_one.jwk, True)
        expected = True
    assert accepted(vector) is expected


@pytest.mark.parametrize(("file", "cases"), FILES.items())
def test_every_case_is_there(file: str, cases: int) -> None:
    assert sum(vector.file == file for vector in VECTORS.values()) == cases
