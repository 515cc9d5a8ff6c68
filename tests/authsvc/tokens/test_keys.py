"""Which keys are accepted, which are rejected, and which one verifies a token."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.compact import MAX_KEY_ID_BYTES
from authsvc.tokens.jwk_set import load_jwks_file, parse_jwks
from authsvc.tokens.keys import MAX_KEYS, KeyLoadError, KeySet, VerificationKey
from authsvc.tokens.secret_files import load_secret_file
from authsvc.tokens.sources import FileKeys
from authsvc.tokens.weak_keys import _ROCA_POWERS
from tests.support.signatures.eddsa import SMALL_ORDER

ALL = ("RS256", "PS256", "ES256", "EdDSA")
SECRET = b"9f1c7e2a5b8d4036e1a7c3f05d92b86a"


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


OTHER_RSA = rsa.generate_private_key(65537, 2048)
OTHER_ED25519 = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def load(*keys: object, algorithms: tuple[str, ...] = ALL) -> list[tuple[str | None, str]]:
    return [(key.kid, key.algorithm) for key in parse_jwks(jwks(*keys), algorithms).keys]


def skipped(*keys: object, algorithms: tuple[str, ...] = ALL) -> list[str]:
    return [str(entry) for entry in parse_jwks(jwks(*keys), algorithms).skipped]


def refusal(*keys: object, algorithms: tuple[str, ...] = ALL) -> str:
    with pytest.raises(KeyLoadError) as refused:
        parse_jwks(jwks(*keys), algorithms).check_usable()
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
def test_a_short_secret_is_rejected(tmp_path: Path, short: bytes) -> None:
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
    (key,) = load_jwks_file(tmp_path / "jwks.json", ["ES256"]).keys
    assert (key.kid, key.algorithm) == ("ec", "ES256")
    assert key.material == p256_key().public_key()


def test_the_message_names_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(rsa_jwk(1024)))
    with pytest.raises(
        KeyLoadError, match=r"jwks\.json: .*keys\[0\] \(kid 'rsa'\): an RSA key has"
    ):
        FileKeys([path], lambda: load_jwks_file(path, ["RS256", "EdDSA"]))


def test_the_algorithm_is_the_keys_own() -> None:
    keys = (rsa_jwk(alg="PS256"), p256_jwk(alg="ES256"), ed25519_jwk(alg="EdDSA"))
    assert load(*keys) == [("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")]


def test_a_key_without_alg_is_for_the_only_configured_one_of_its_type() -> None:
    keys = (rsa_jwk(), p256_jwk(), ed25519_jwk())
    assert load(*keys, algorithms=("RS256", "ES256", "EdDSA")) == [
        ("rsa", "RS256"),
        ("ec", "ES256"),
        ("ed", "EdDSA"),
    ]


def test_a_key_without_alg_is_for_each_configured_one_of_its_type() -> None:
    assert load(rsa_jwk()) == [("rsa", "RS256"), ("rsa", "PS256")]
    keys = key_set(rsa_jwk(), p256_jwk())
    assert keys.find("rsa", "PS256").algorithm == "PS256"
    assert keys.find("rsa", "RS256").algorithm == "RS256"
    assert reason_of(keys, "rsa", "ES256") is Reason.TOKEN_ALGORITHM_REFUSED
    # Not in the issuer's list, though the type fits (RFC 8725 section 3.1).
    keys = parse_jwks(jwks(rsa_jwk()), ["RS256"])
    assert reason_of(keys, "rsa", "PS256") is Reason.TOKEN_ALGORITHM_REFUSED


@pytest.mark.parametrize(
    "unused",
    [
        p256_jwk(use="enc"),
        p256_jwk(use=["sig"]),
        p256_jwk(key_ops=["sign"]),
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
def test_keys_of_another_purpose_are_skipped(unused: dict[str, object]) -> None:
    assert load(unused, rsa_jwk(alg="RS256"), unused) == [("rsa", "RS256")]
    assert refusal(unused).startswith("no key verifies signatures; keys[0]")


@pytest.mark.parametrize(
    ("unused", "message"),
    [
        (p256_jwk(use="enc"), "is not for signatures: its use is 'enc'"),
        (p256_jwk(use=["sig"]), "is not for signatures: its use is no string"),
        (p256_jwk(key_ops=["sign"]), "is not for signatures: its key_ops has no 'verify'"),
        (p256_jwk(alg="ES384"), "its alg 'ES384' is not configured"),
        ({"kid": "ec"}, "no configured algorithm goes with a key without kty"),
        (p256_jwk(crv="P-384"), "no configured algorithm goes with its kty 'EC' with crv 'P-384'"),
    ],
)
def test_the_message_says_what_a_key_is_for_instead(
    unused: dict[str, object], message: str
) -> None:
    assert skipped(rsa_jwk(), unused) == [f"keys[1] (kid 'ec'): {message}"]


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
        ({"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode()}, "is a symmetric key"),
        ({"kty": "oct"}, "is a symmetric key"),
        (p256_jwk(k="AA"), "is private"),
        (rsa_jwk(1024, alg="RS256"), "2048 to 8192 bits, not 1024"),
        (rsa_jwk(alg="ES256"), "its kty 'RSA' does not go with its alg 'ES256'"),
        (p256_jwk(alg="EdDSA"), "'EC' with crv 'P-256' does not go with its alg 'EdDSA'"),
        (p256_jwk(alg=["ES256"]), "alg is not a string"),
        (p256_jwk(x="AAAA"), "not a valid ES256 key: its x has 3 bytes, not 32"),
        (p256_jwk(x=p256_jwk()["y"]), "valid ES256 key: its x and y are no point of its curve"),
        (p256_jwk(y=7), "not a valid ES256 key: its y is not base64url"),
        (p256_jwk(y="~~"), "not a valid ES256 key: its y is not base64url"),
        (ed25519_jwk(x="AAAA"), "not a valid EdDSA key: its x has 3 bytes, not 32"),
        (rsa_jwk(n=None, alg="RS256"), "not a valid RS256 key: it has no n"),
        (rsa_jwk(e="AQ", alg="RS256"), "valid RS256 key: its n and e make no RSA key"),
        (rsa_jwk(e="", alg="RS256"), "not a valid RS256 key"),
        (rsa_jwk(n="!!!garbage", alg="RS256"), "not a valid RS256 key: its n is not base64url"),
        (p256_jwk(kid=7), "its kid is not a string"),
        (p256_jwk(kid=""), "its kid is not a string"),
        (p256_jwk(kid="k" * (MAX_KEY_ID_BYTES + 1)), "its kid is not a string"),
    ],
)
def test_dangerous_and_broken_keys_are_skipped(dangerous: dict[str, object], message: str) -> None:
    sound = ed25519_jwk(kid="sound", x=OTHER_ED25519["x"])
    assert load(sound, dangerous) == [("sound", "EdDSA")]
    (told,) = skipped(sound, dangerous)
    assert message in told
    assert told.startswith("keys[1]")
    for member in ("n", "x", "d", "k"):
        material = str(dangerous.get(member, ""))
        assert len(material) < 8 or material not in told


def anybody_signs(key: ed25519.Ed25519PublicKey, message: bytes) -> bool:
    """Whether some signature over a message is made without a private key."""
    for point in SMALL_ORDER:
        with suppress(InvalidSignature):
            key.verify(point + bytes(32), message)
            return True
    return False


@pytest.mark.parametrize("point", SMALL_ORDER, ids=bytes.hex)
def test_a_key_of_small_order_is_skipped(point: bytes) -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes(point)
    assert any(anybody_signs(key, b"message %d" % count) for count in range(16))
    weak = ed25519_jwk(kid="weak", x=base64.urlsafe_b64encode(point).rstrip(b"=").decode())
    assert load(weak, ed25519_jwk()) == [("ed", "EdDSA")]
    assert "small order, for which anybody can sign" in skipped(weak)[0]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[' + b"[" * 255 + b"]" * 255 + b"]}",
        jwks()[:-1],
    ],
)
def test_what_is_not_a_jwk_set(document: bytes) -> None:
    with pytest.raises(KeyLoadError):
        parse_jwks(document, ALL)


@pytest.mark.parametrize(
    "odd",
    [
        "key",
        None,
        7,
        [],
        {},
        {"kty": "EC", "crv": "P-256"},
        p256_jwk(kid="\ud800", alg="ES384"),
        p256_jwk(x={}, y=[]),
        {**rsa_jwk(), "n": [], "alg": "RS256"},
        {**rsa_jwk(), "e": 65537, "alg": "RS256"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "pq"},
        float("nan"),
        p256_jwk(alg=float("nan")),
        p256_jwk(alg=10**50),
        p256_jwk(kid="\ud800"),
    ],
)
def test_an_invalid_entry_does_not_affect_the_others(odd: object) -> None:
    (told,) = skipped(odd, ed25519_jwk())
    assert told.startswith("keys[0]")
    assert load(odd, ed25519_jwk()) == [("ed", "EdDSA")]
    assert load(odd) == []


def test_a_member_twice_is_found_in_its_entry_alone() -> None:
    entry = json.dumps(p256_jwk())[:-1] + ', "kid": "other"}'
    document = f'{{"keys": [{entry}, {json.dumps(ed25519_jwk())}]}}'.encode()
    keys = parse_jwks(document, ALL)
    assert [key.kid for key in keys.keys] == ["ed"]
    assert [str(item) for item in keys.skipped] == ["keys[0] (kid 'other'): has a member twice"]


@pytest.mark.parametrize("member", ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"])
@pytest.mark.parametrize(
    "value", [None, 0, 1.5, True, "", "AA", "\ud800", [], ["P-256"], {}, 10**50]
)
def test_no_member_of_an_entry_breaks_the_set(member: str, value: object) -> None:
    for jwk in (p256_jwk(), rsa_jwk(), ed25519_jwk()):
        kids = [kid for kid, _ in load({**jwk, member: value}, ed25519_jwk(kid="sound"))]
        assert "sound" in kids or member in {"use", "kid"} or jwk["kty"] == "OKP"


def test_the_same_key_twice_is_one_key() -> None:
    assert load(p256_jwk(), ed25519_jwk(), p256_jwk()) == [("ec", "ES256"), ("ed", "EdDSA")]
    assert skipped(p256_jwk(), p256_jwk()) == []


def test_a_kid_is_chosen_by_algorithm_and_type() -> None:
    keys = key_set(
        rsa_jwk(kid="same", alg="RS256"),
        rsa_jwk(kid="same", alg="PS256"),
        p256_jwk(kid="same"),
    )
    for algorithm in ("RS256", "PS256", "ES256"):
        assert keys.find("same", algorithm).algorithm == algorithm
    assert reason_of(keys, "same", "EdDSA") is Reason.TOKEN_ALGORITHM_REFUSED


def test_one_that_states_its_algorithm_goes_before_one_that_does_not() -> None:
    other = RSAAlgorithm.to_jwk(OTHER_RSA.public_key(), as_dict=True)
    keys = key_set({**other, "kid": "rsa"}, rsa_jwk(alg="RS256"))
    assert keys.find("rsa", "RS256").material == rsa_key(2048).public_key()
    assert keys.find("rsa", "PS256").material == OTHER_RSA.public_key()


def test_ambiguous_keys_are_skipped_and_the_rest_works() -> None:
    one, two = ed25519_jwk(kid="same"), {**OTHER_ED25519, "kid": "same"}
    assert load(one, two, one, p256_jwk()) == [("ec", "ES256")]
    assert [text.split(" ")[0] for text in skipped(one, two, one, p256_jwk())] == [
        "keys[0]",
        "keys[1]",
    ]
    assert skipped({**one, "kid": None}, {**two, "kid": None})[1].startswith("keys[1]: is one of")


def test_a_key_whose_private_half_is_published_is_skipped() -> None:
    private = OKPAlgorithm.to_jwk(ed25519_key(), as_dict=True)
    assert load(ed25519_jwk(), private, p256_jwk()) == [("ec", "ES256")]
    assert "published with its private key" in skipped(ed25519_jwk(), private, p256_jwk())[1]


@pytest.mark.parametrize(
    "spelling",
    [
        {"e": "AAEAAQ"},
        {"n": f"{rsa_jwk()['n']}=="},
        {"crv": "none"},
    ],
)
def test_a_published_private_key_may_be_spelt_otherwise(spelling: dict[str, str]) -> None:
    private = {**RSAAlgorithm.to_jwk(rsa_key(2048), as_dict=True), **spelling}
    assert load(rsa_jwk(), private, p256_jwk()) == [("ec", "ES256")]


def test_keys_without_a_name() -> None:
    nameless = p256_jwk()
    del nameless["kid"]
    assert load(nameless) == [(None, "ES256")]
    keys = key_set(nameless, ed25519_jwk())
    # The only key that is for the token's algorithm.
    assert keys.find(None, "ES256").material == p256_key().public_key()
    assert keys.find("any", "ES256").material == p256_key().public_key()
    assert keys.find(None, "EdDSA").kid == "ed"
    assert reason_of(keys, "any", "EdDSA") is Reason.TOKEN_KEY_UNKNOWN
    two = key_set(ed25519_jwk(), {**OTHER_ED25519, "kid": "other"})
    assert reason_of(two, None, "EdDSA") is Reason.TOKEN_KEY_UNKNOWN


def test_a_set_without_a_key_that_can_be_used() -> None:
    keys = key_set({**rsa_jwk(1024), "alg": "RS256"})
    assert reason_of(keys, "rsa", "RS256") is Reason.TOKEN_KEY_UNKNOWN
    assert reason_of(keys, "rsa", "HS256") is Reason.TOKEN_ALGORITHM_REFUSED
    assert reason_of(key_set(), None, "ES256") is Reason.TOKEN_KEY_UNKNOWN


def test_a_key_that_can_be_factored_is_rejected() -> None:
    product = math.prod(_ROCA_POWERS)
    modulus = pow(65537, 1234, product) + product * (1 << 1950)
    modulus += product * (1 - modulus % 2)  # odd, as moduli are
    public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    with pytest.raises(KeyLoadError, match="ROCA"):
        VerificationKey("k", "RS256", public)
    # The next modulus is no power of 65537 by some of the primes, as of other keys it is not.
    sound = rsa.RSAPublicNumbers(65537, modulus + 2).public_key()
    assert VerificationKey("k", "RS256", sound).material is sound


# Finding


def key_set(*keys: dict[str, Any]) -> KeySet:
    return parse_jwks(jwks(*keys), ALL)


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
    assert keys.find(None, "ES256").kid == "ec"  # the only one that is for it
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


def test_a_set_is_bounded_with_its_previous_secrets() -> None:
    current, *previous = [
        VerificationKey(None, "HS256", b"%d: %s" % (n, SECRET)) for n in range(MAX_KEYS + 1)
    ]
    KeySet((current,), previous=tuple(previous[1:]))
    with pytest.raises(KeyLoadError, match=f"more than {MAX_KEYS} keys"):
        KeySet((current,), previous=tuple(previous))


def test_only_secrets_can_be_previous_ones() -> None:
    secret = VerificationKey(None, "HS256", SECRET)
    public = VerificationKey("ec", "ES256", p256_key().public_key())
    with pytest.raises(KeyLoadError, match="only a secret"):
        KeySet((secret,), previous=(public,))


def test_two_keys_of_a_set_differ_in_name_or_algorithm() -> None:
    public = rsa_key().public_key()
    KeySet((VerificationKey("a", "RS256", public), VerificationKey("a", "PS256", public)))
    with pytest.raises(KeyLoadError, match="kid 'a' is listed twice for RS256"):
        KeySet((VerificationKey("a", "RS256", public), VerificationKey("a", "RS256", public)))


def test_no_published_key_is_for_a_secrets_algorithm() -> None:
    """A public key as the secret of HS256 would let anybody sign."""
    configured = ("HS256", "ES256")
    assert load(p256_jwk(), algorithms=configured) == [("ec", "ES256")]
    assert load(p256_jwk(alg="HS256"), algorithms=configured) == []
    (why,) = skipped(p256_jwk(alg="HS256"), algorithms=configured)
    assert "does not go with its alg 'HS256'" in why


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS1", "hs256", "ES256K", "Ed448"])
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
