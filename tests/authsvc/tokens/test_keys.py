"""Which keys are taken, which are refused, and which one a token gets."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from authsvc.errors import AuthError, Reason
from authsvc.tokens.compact import MAX_KEY_ID_BYTES
from authsvc.tokens.keys import (
    _ROCA_POWERS,
    KeyLoadError,
    KeySet,
    VerificationKey,
    load_jwks_file,
    load_secret_file,
    parse_jwks,
)

ALL = ("RS256", "PS256", "ES256", "EdDSA")
SECRET = b"0123456789abcdef0123456789abcdef"


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def p256_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def rsa_jwk(bits: int = 2048, **members: object) -> dict[str, Any]:
    jwk = RSAAlgorithm.to_jwk(rsa_key(bits).public_key(), as_dict=True)
    del jwk["key_ops"]
    return {**jwk, "kid": "rsa", **members}


def p256_jwk(**members: object) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(p256_key().public_key(), as_dict=True), "kid": "ec", **members}


def ed25519_jwk(**members: object) -> dict[str, Any]:
    jwk = OKPAlgorithm.to_jwk(ed25519_key().public_key(), as_dict=True)
    return {**jwk, "kid": "ed", **members}


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def load(*keys: object, algorithms: tuple[str, ...] = ALL) -> list[tuple[str | None, str]]:
    return [(key.kid, key.algorithm) for key in parse_jwks(jwks(*keys), algorithms)]


def refusal(*keys: object, algorithms: tuple[str, ...] = ALL) -> str:
    with pytest.raises(KeyLoadError) as refused:
        parse_jwks(jwks(*keys), algorithms)
    return str(refused.value)


# Secrets


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_secret_is_the_file_without_its_last_newline(tmp_path: Path, ending: bytes) -> None:
    (tmp_path / "secret").write_bytes(SECRET + ending)
    key = load_secret_file(tmp_path / "secret")
    assert key == VerificationKey(None, "HS256", SECRET)


def test_the_rest_of_a_secret_counts(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" " + SECRET + b"\xff\n\n")
    assert load_secret_file(tmp_path / "secret").material == b" " + SECRET + b"\xff\n"


@pytest.mark.parametrize("short", [b"", b"\n", SECRET[:31], SECRET[:31] + b"\n"])
def test_a_short_secret_is_refused(tmp_path: Path, short: bytes) -> None:
    (tmp_path / "secret").write_bytes(short)
    with pytest.raises(KeyLoadError, match="32 bytes") as refused:
        load_secret_file(tmp_path / "secret")
    assert str(tmp_path / "secret") in str(refused.value)
    assert SECRET.decode()[:8] not in str(refused.value)


def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    pem = rsa_key().public_key()
    (tmp_path / "secret").write_bytes(
        pem.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(KeyLoadError, match="is not a key for HS256"):
        load_secret_file(tmp_path / "secret")


@pytest.mark.parametrize("load_file", [load_secret_file, lambda path: load_jwks_file(path, ALL)])
def test_a_file_that_is_not_there(tmp_path: Path, load_file: Callable[[Path], object]) -> None:
    with pytest.raises(KeyLoadError, match="missing: No such file"):
        load_file(tmp_path / "missing")


def test_a_key_shows_no_material() -> None:
    key = VerificationKey("k", "HS256", SECRET)
    assert SECRET.decode() not in repr(key)
    assert SECRET.decode() not in repr(KeySet((key,)))


# JWK Sets


def test_a_jwks_file(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(p256_jwk()))
    (key,) = load_jwks_file(tmp_path / "jwks.json", ["ES256"])
    assert (key.kid, key.algorithm) == ("ec", "ES256")
    assert key.material == p256_key().public_key()


def test_the_message_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(ed25519_jwk(), rsa_jwk(1024)))
    with pytest.raises(KeyLoadError, match=r"jwks\.json: keys\[1\] \(kid 'rsa'\): an RSA key has"):
        load_jwks_file(tmp_path / "jwks.json", ["RS256", "EdDSA"])


def test_the_algorithm_is_the_keys_own() -> None:
    keys = (rsa_jwk(alg="PS256"), p256_jwk(alg="ES256"), ed25519_jwk(alg="EdDSA"))
    assert load(*keys) == [("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")]


def test_else_the_only_configured_one_that_fits() -> None:
    keys = (rsa_jwk(), p256_jwk(), ed25519_jwk())
    assert load(*keys, algorithms=("RS256", "ES256", "EdDSA")) == [
        ("rsa", "RS256"),
        ("ec", "ES256"),
        ("ed", "EdDSA"),
    ]


def test_an_open_algorithm_is_refused() -> None:
    assert "PS256 and RS256 both fit" in refusal(rsa_jwk())


@pytest.mark.parametrize(
    "unused",
    [
        p256_jwk(use="enc"),
        p256_jwk(use=["sig"]),
        p256_jwk(key_ops=["sign"]),
        p256_jwk(key_ops=[]),
        p256_jwk(key_ops="verify"),
        p256_jwk(alg="ES384"),
        p256_jwk(alg="ECDH-ES"),
        p256_jwk(alg="HS256"),
        p256_jwk(alg="none"),
        p256_jwk(crv="P-384"),
        p256_jwk(crv=["P-256"]),
        p256_jwk(kty="AKP"),
        {"kid": "nothing"},
        {**OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)},
    ],
)
def test_keys_for_something_else_are_left_out(unused: dict[str, object]) -> None:
    assert load(unused, rsa_jwk(alg="RS256"), unused) == [("rsa", "RS256")]
    assert refusal(unused).startswith("no key verifies signatures; keys[0]")


def test_keys_for_signatures_by_name() -> None:
    jwk = p256_jwk(use="sig", key_ops=["verify", "sign"])
    assert load(jwk) == [("ec", "ES256")]


@pytest.mark.parametrize(
    ("dangerous", "message"),
    [
        (RSAAlgorithm.to_jwk(rsa_key(), as_dict=True), "is private"),
        (ECAlgorithm.to_jwk(p256_key(), as_dict=True), "is private"),
        (OKPAlgorithm.to_jwk(ed25519_key(), as_dict=True), "is private"),
        (p256_jwk(d="AA", use="enc"), "is private"),
        ({"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode()}, "is private"),
        ({"kty": "oct"}, "is private"),
        (rsa_jwk(1024, alg="RS256"), "2048 to 8192 bits, not 1024"),
        (rsa_jwk(alg="ES256"), "does not go with its alg"),
        (p256_jwk(alg="EdDSA"), "does not go with its alg"),
        (p256_jwk(alg=["ES256"]), "alg is not a string"),
        (p256_jwk(x="AAAA"), "not a sound ES256 key"),
        (p256_jwk(x=p256_jwk()["y"]), "not a sound ES256 key"),
        (p256_jwk(y=7), "not a sound ES256 key"),
        (ed25519_jwk(x="AAAA"), "not a sound EdDSA key"),
        (rsa_jwk(n=None, alg="RS256"), "not a sound RS256 key"),
        (rsa_jwk(e="AQ", alg="RS256"), "not a sound RS256 key"),
        (rsa_jwk(e="", alg="RS256"), "not a sound RS256 key"),
        (p256_jwk(kid=7), "its kid is not a string"),
        (p256_jwk(kid=""), "its kid is not a string"),
        (p256_jwk(kid="k" * (MAX_KEY_ID_BYTES + 1)), "its kid is not a string"),
    ],
)
def test_dangerous_and_broken_keys_refuse_the_set(
    dangerous: dict[str, object], message: str
) -> None:
    told = refusal(rsa_jwk(alg="PS256", kid="sound"), dangerous)
    assert message in told
    assert told.startswith("keys[1]")
    for member in ("n", "x", "d", "k"):
        material = str(dangerous.get(member, ""))
        assert len(material) < 8 or material not in told


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":["key"]}',
        b'{"keys":[],"keys":[]}',
        jwks()[:-1],
        jwks(),
    ],
)
def test_what_is_not_a_jwk_set(document: bytes) -> None:
    with pytest.raises(KeyLoadError):
        parse_jwks(document, ALL)


def test_names_are_unique() -> None:
    assert "kid 'same' is there twice" in refusal(p256_jwk(kid="same"), ed25519_jwk(kid="same"))


def test_one_of_several_keys_needs_a_name() -> None:
    nameless = p256_jwk()
    del nameless["kid"]
    assert load(nameless) == [(None, "ES256")]
    assert "needs a kid" in refusal(nameless, ed25519_jwk())


def test_a_key_that_can_be_factored_is_refused() -> None:
    product = math.prod(_ROCA_POWERS)
    modulus = pow(65537, 1234, product) + product * (1 << 1950)
    modulus += product * (1 - modulus % 2)  # odd, as moduli are
    public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    with pytest.raises(KeyLoadError, match="ROCA"):
        VerificationKey("k", "RS256", public)
    # The next modulus is no power of 65537 by some of the primes, as sound ones are not.
    sound = rsa.RSAPublicNumbers(65537, modulus + 2).public_key()
    assert VerificationKey("k", "RS256", sound).material is sound


# Finding


def key_set(*keys: dict[str, Any]) -> KeySet:
    return KeySet(parse_jwks(jwks(*keys), ALL))


def reason_of(keys: KeySet, kid: str | None, algorithm: str) -> Reason:
    with pytest.raises(AuthError) as refused:
        keys.find(kid, algorithm)
    return refused.value.reason


def test_a_key_is_found_by_name_and_algorithm() -> None:
    keys = key_set(p256_jwk(), ed25519_jwk())
    assert keys.find("ec", "ES256").kid == "ec"
    assert keys.find("ed", "EdDSA").kid == "ed"
    assert reason_of(keys, "ec", "EdDSA") is Reason.TOKEN_ALGORITHM_REFUSED
    assert reason_of(keys, "ec", "HS256") is Reason.TOKEN_ALGORITHM_REFUSED
    assert reason_of(keys, "other", "ES256") is Reason.TOKEN_KEY_UNKNOWN
    assert reason_of(keys, "EC", "ES256") is Reason.TOKEN_KEY_UNKNOWN
    assert reason_of(keys, None, "ES256") is Reason.TOKEN_KEY_UNKNOWN
    assert reason_of(keys, "", "ES256") is Reason.TOKEN_KEY_UNKNOWN
    assert reason_of(keys, "other", "none") is Reason.TOKEN_ALGORITHM_REFUSED


def test_an_only_key_with_a_name() -> None:
    keys = key_set(p256_jwk())
    assert keys.find(None, "ES256").kid == "ec"
    assert reason_of(keys, "other", "ES256") is Reason.TOKEN_KEY_UNKNOWN


def test_an_only_key_without_a_name_goes_with_any() -> None:
    keys = KeySet((VerificationKey(None, "HS256", SECRET),))
    assert keys.find(None, "HS256") == keys.find("any", "HS256") == keys.keys[0]
    assert reason_of(keys, "any", "HS512") is Reason.TOKEN_ALGORITHM_REFUSED


def test_a_set_has_keys() -> None:
    with pytest.raises(KeyLoadError, match="no key"):
        KeySet(())


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS512", "RS384", "ES256K"])
def test_unsupported_algorithms(algorithm: str) -> None:
    with pytest.raises(KeyLoadError, match="not supported"):
        VerificationKey(None, algorithm, SECRET)


def test_material_of_another_algorithm() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    for algorithm, material in (
        ("RS256", SECRET),
        ("RS256", p256_key().public_key()),
        ("HS256", rsa_key().public_key()),
        ("ES256", p384),
    ):
        with pytest.raises(KeyLoadError, match=f"is not a key for {algorithm}"):
            VerificationKey(None, algorithm, material)
