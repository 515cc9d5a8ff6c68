"""JWK Sets as issuers publish them: odd entries, repeated names, and algorithms that change."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken
from authsvc.server.config import IssuerSettings
from authsvc.server.issuers import issuer_of
from authsvc.tokens.jwt import JwtVerifier
from authsvc.tokens.sources import COOL_DOWN_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, Site, serving_http
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
SMALL_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be skipped
EC = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
}
ED = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()


def public(key: PrivateKeyTypes, **members: object) -> dict[str, Any]:
    """The JWK of a private key's public half."""
    if isinstance(key, rsa.RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}
    assert isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


def without(name: str, jwk: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in jwk.items() if member != name}


GOOD = public(RSA, kid="good", alg="RS256", use="sig")


class Field:
    """An issuer with a JWK Set on this machine, as it is configured."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.issuer = site.url
        self.verifier = JwtVerifier([])

    def publish(self, *keys: object) -> None:
        self._site.answers["/jwks"] = Answer(json.dumps({"keys": list(keys)}).encode())

    def close(self) -> None:
        """Answer 404 from now on."""
        del self._site.answers["/jwks"]

    def fetched(self) -> int:
        """How often the keys were asked for."""
        return len(self._site.requests)

    async def configure(self, *algorithms: str, now: float = START) -> None:
        settings = IssuerSettings.model_validate(
            {
                "issuer": self.issuer,
                "algorithms": algorithms,
                "jwks_url": f"{self._site.url}/jwks",
            }
        )
        self.verifier = JwtVerifier([issuer_of(settings)])
        await self.verifier.refresh(now)

    def token(
        self, key: object, algorithm: str, kid: str | None = None, **header: object
    ) -> BearerToken:
        claims = {"iss": self.issuer, "sub": "alice", "aud": RESOURCE, "iat": START}
        claims["exp"] = START + 7200
        headers = {"kid": kid, **header} if kid is not None else header
        return BearerToken(jwt.encode(claims, key, algorithm, headers))  # type: ignore[arg-type]

    async def verdict(self, token: BearerToken, now: float = START) -> Reason | None:
        try:
            await self.verifier.verify(token, resource=RESOURCE, now=now)
        except AuthError as error:
            return error.reason
        return None


@pytest.fixture
def field() -> Iterator[Field]:
    with serving_http() as site:
        yield Field(site)


EVERY = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")

ODD: Mapping[str, object] = {
    "Ed448": public(ED448, kid="odd", alg="EdDSA"),
    "X25519": {"kty": "OKP", "crv": "X25519", "x": "AA" * 16, "kid": "odd"},
    "EC without y": without("y", public(EC["P-256"], kid="odd", alg="ES256")),
    "EC off its curve": {**public(EC["P-256"], kid="odd"), "y": public(EC["P-256"])["x"]},
    "EC with the alg of another curve": public(EC["P-256"], kid="odd", alg="ES384"),
    "secp256k1": public(EC["secp256k1"], kid="odd", alg="ES256K"),
    "secp256k1 that says ES256": public(EC["secp256k1"], kid="odd", alg="ES256"),
    "RSA of 1024 bits": public(SMALL_RSA, kid="odd", alg="RS256"),
    "RSA without n": without("n", public(OTHER_RSA, kid="odd", alg="RS256")),
    "ML-DSA": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "odd"},
    "private": {**public(OTHER_RSA, kid="odd", alg="RS256"), "d": "AQAB"},
    "symmetric": {"kty": "oct", "k": "AA" * 32, "kid": "odd", "alg": "HS256"},
    "for encryption": public(OTHER_RSA, kid="odd", alg="RSA-OAEP", use="enc"),
    "certificate alone": {"kty": "RSA", "kid": "odd", "x5c": ["MIIB"]},
    "kid is a number": public(OTHER_RSA, kid=7, alg="RS256"),
    "alg is a list": public(OTHER_RSA, kid="odd", alg=["RS256"]),
    "key_ops is a string": public(OTHER_RSA, kid="odd", key_ops="verify"),
    "no kty": without("kty", public(OTHER_RSA, kid="odd")),
    "null": None,
    "a string": "key",
    "a list": [GOOD],
    "nothing": {},
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_an_odd_entry_is_skipped_and_the_rest_works(
    field: Field, odd: object, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    field.publish(*((odd, GOOD) if place == "before" else (GOOD, odd)))
    await field.configure(*EVERY)
    assert await field.verdict(field.token(RSA, "RS256", "good")) is None
    await field.verifier.refresh(START + 3600)  # the same again is not logged again
    (line,) = [it.getMessage() for it in caplog.records if "skipped a key" in it.getMessage()]
    assert f"keys[{0 if place == 'before' else 1}]" in line
    if isinstance(odd, dict) and isinstance(odd.get("kid"), str):
        assert "kid 'odd'" in line


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(SMALL_RSA, "RS256"), (OTHER_RSA, "RS256"), (EC["P-256"], "ES256"), ("AA" * 32, "HS256")],
    ids=["small", "private", "EC without y", "symmetric"],
)
async def test_a_token_by_a_skipped_entry_is_rejected(
    field: Field, key: object, algorithm: str
) -> None:
    odd = ("RSA of 1024 bits", "private", "EC without y", "symmetric")
    field.publish(GOOD, *({**dict(ODD[it]), "kid": it} for it in odd))  # type: ignore[call-overload]
    await field.configure(*EVERY)
    for kid in (*odd, None):
        assert await field.verdict(field.token(key, algorithm, kid)) in {
            Reason.TOKEN_KEY_UNKNOWN,
            Reason.TOKEN_ALGORITHM_REFUSED,
            Reason.TOKEN_SIGNATURE_INVALID,
        }


@pytest.mark.parametrize(
    "again",
    [GOOD, dict(reversed(GOOD.items())), {**GOOD, "x5t": "AA"}, {**GOOD, "x5c": ["MIIB"], "n2": 1}],
    ids=["equal", "another order", "x5t", "more members"],
)
async def test_the_same_key_twice_works(field: Field, again: dict[str, Any]) -> None:
    field.publish(GOOD, again)
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256", "good")) is None


ABSENT = ("alg", "use", "crv", "k", "d", "p", "q", "dp", "dq", "qi", "oth", "x5t", "issuer")


async def test_members_without_a_value_are_absent(field: Field) -> None:
    """As .NET's serialiser writes what a key has not."""
    unset: dict[str, object] = {**dict.fromkeys(ABSENT), "key_ops": [], "x5c": []}
    field.publish({**unset, **public(RSA, kid="k")})
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256", "k")) is None


async def test_a_private_entry_is_private_beside_members_without_a_value(field: Field) -> None:
    private = RSAAlgorithm.to_jwk(RSA, as_dict=True)
    field.publish(GOOD, {**private, "kid": "k", "oth": None, "key_ops": None, "use": "enc"})
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256", "good")) is Reason.TOKEN_KEY_UNKNOWN


async def test_one_kid_under_two_algorithms_is_chosen_by_the_tokens(field: Field) -> None:
    field.publish(public(RSA, kid="k", alg="RS256"), public(OTHER_RSA, kid="k", alg="PS256"))
    await field.configure("RS256", "PS256")
    assert await field.verdict(field.token(RSA, "RS256", "k")) is None
    assert await field.verdict(field.token(OTHER_RSA, "PS256", "k")) is None
    assert await field.verdict(field.token(RSA, "PS256", "k")) is Reason.TOKEN_SIGNATURE_INVALID


async def test_one_kid_on_two_types_of_key_is_chosen_by_the_type(field: Field) -> None:
    field.publish(public(RSA, kid="k"), public(EC["P-256"], kid="k"), public(EC["P-384"], kid="k"))
    await field.configure("RS256", "ES256", "ES384")
    assert await field.verdict(field.token(RSA, "RS256", "k")) is None
    assert await field.verdict(field.token(EC["P-256"], "ES256", "k")) is None
    assert await field.verdict(field.token(EC["P-384"], "ES384", "k")) is None


async def test_two_keys_of_one_name_are_both_skipped_and_the_rest_works(field: Field) -> None:
    field.publish(
        GOOD, public(OTHER_RSA, kid="k", alg="RS256"), public(RSA, kid="k", alg="RS256", use="sig")
    )
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256", "good")) is None
    for key in (RSA, OTHER_RSA):
        assert await field.verdict(field.token(key, "RS256", "k")) is Reason.TOKEN_KEY_UNKNOWN


async def test_of_two_keys_of_one_kid_the_one_that_states_the_algorithm_is_used(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    field.publish(public(OTHER_RSA, kid="k"), public(RSA, kid="k", alg="RS256"))
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256", "k")) is None
    assert "keys[0] (kid 'k'): has no alg, and another key with the same kid has one" in caplog.text
    caplog.clear()
    # The same key under both is no other one.
    field.publish(public(RSA, kid="k"), public(RSA, kid="k", alg="RS256"))
    await field.configure("RS256")
    assert "skipped" not in caplog.text


async def test_a_new_set_counts_at_once_whatever_else_is_in_it(field: Field) -> None:
    first, second = public(RSA, kid="k1", alg="RS256"), public(OTHER_RSA, kid="k2", alg="RS256")
    field.publish(first)
    await field.configure("RS256")
    cached = field.token(RSA, "RS256", "k1")
    assert await field.verdict(cached) is None
    field.publish(second, ODD["EC without y"])
    later = START + COOL_DOWN_SECONDS + 1
    assert await field.verdict(field.token(OTHER_RSA, "RS256", "k2"), later) is None
    assert await field.verdict(cached, later) is Reason.TOKEN_KEY_UNKNOWN
    new = field.token(RSA, "RS256", "k1", cty="x")
    assert await field.verdict(new, later) is Reason.TOKEN_KEY_UNKNOWN


async def test_a_key_without_alg_is_tried_by_the_tokens_algorithm(field: Field) -> None:
    field.publish(public(RSA, kid="k"))
    await field.configure("RS256", "PS256")
    for algorithm in ("RS256", "PS256"):
        assert await field.verdict(field.token(RSA, algorithm, "k")) is None
    # RFC 8725 section 3.1: the issuer's configuration still says which ones there are.
    assert await field.verdict(field.token(RSA, "RS384", "k")) is Reason.TOKEN_ALGORITHM_REFUSED


async def test_a_key_with_alg_is_for_that_alone(field: Field) -> None:
    field.publish(public(RSA, kid="k", alg="RS256"))
    await field.configure("RS256", "PS256")
    assert await field.verdict(field.token(RSA, "PS256", "k")) is Reason.TOKEN_ALGORITHM_REFUSED


async def test_without_a_kid_the_only_key_that_fits_is_used(field: Field) -> None:
    field.publish(public(RSA, kid="r"), public(EC["P-256"], kid="e"))
    await field.configure("RS256", "ES256")
    assert await field.verdict(field.token(RSA, "RS256")) is None
    assert await field.verdict(field.token(EC["P-256"], "ES256")) is None


@pytest.mark.parametrize(("in_key", "in_token"), [(None, None), ("a", None), (None, "a")])
async def test_a_key_that_no_kid_tells_from_its_successor_is_replaced_at_once(
    field: Field, in_key: str | None, in_token: str | None
) -> None:
    field.publish({**public(RSA), "kid": in_key})
    await field.configure("RS256")
    old, new = (field.token(key, "RS256", in_token) for key in (RSA, OTHER_RSA))
    assert await field.verdict(old) is None
    assert await field.verdict(new, START + 1) is Reason.TOKEN_SIGNATURE_INVALID
    field.publish({**public(OTHER_RSA), "kid": in_key and "b"})
    # One fetch in this time, however many forged tokens there are.
    for seconds in (1.0, COOL_DOWN_SECONDS):
        assert await field.verdict(new, START + seconds) is Reason.TOKEN_SIGNATURE_INVALID
    later = START + 1 + COOL_DOWN_SECONDS
    assert await field.verdict(new, later) is None
    assert await field.verdict(old, later) is Reason.TOKEN_SIGNATURE_INVALID


async def test_a_key_that_was_published_just_after_a_fetch_that_was_due_is_found_at_once(
    field: Field,
) -> None:
    field.publish({**public(RSA), "kid": "a"})
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256", "a")) is None
    field.publish({**public(OTHER_RSA), "kid": "b"})
    assert await field.verdict(field.token(OTHER_RSA, "RS256", "b"), START + 1) is None
    # The next one waits: unknown keys cause one fetch in this time.
    field.publish({**public(RSA), "kid": "c"})
    third = field.token(RSA, "RS256", "c")
    assert await field.verdict(third, START + COOL_DOWN_SECONDS) is Reason.TOKEN_KEY_UNKNOWN
    assert await field.verdict(third, START + 1 + COOL_DOWN_SECONDS) is None


async def test_an_outage_does_not_turn_a_forged_token_into_one(field: Field) -> None:
    field.publish(without("kid", public(RSA)))
    await field.configure("RS256")
    field.close()
    later = START + COOL_DOWN_SECONDS
    forged = field.token(OTHER_RSA, "RS256")
    assert await field.verdict(forged, later) is Reason.TOKEN_SIGNATURE_INVALID
    assert await field.verdict(field.token(RSA, "RS256"), later) is None


async def test_a_named_key_is_not_looked_for_again(field: Field) -> None:
    field.publish(GOOD)
    await field.configure("RS256")
    fetched = field.fetched()
    forged = field.token(OTHER_RSA, "RS256", "good")
    later = START + COOL_DOWN_SECONDS
    assert await field.verdict(forged, later) is Reason.TOKEN_SIGNATURE_INVALID
    assert field.fetched() == fetched


async def test_without_a_kid_no_keys_are_tried_one_after_the_other(field: Field) -> None:
    field.publish(public(RSA, kid="a"), public(OTHER_RSA, kid="b"))
    await field.configure("RS256")
    assert await field.verdict(field.token(RSA, "RS256")) is Reason.TOKEN_KEY_UNKNOWN


def renamed(token: BearerToken, algorithm: str) -> str:
    """Header and claims of a token, with another ``alg``."""
    header, claims, _ = token.text.split(".")
    members = json.loads(base64.urlsafe_b64decode(header + "=="))
    encoded = json.dumps({**members, "alg": algorithm}).encode()
    return base64.urlsafe_b64encode(encoded).decode().rstrip("=") + "." + claims


@pytest.mark.parametrize("in_key", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("in_token", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("configured", ["EdDSA", "Ed25519"])
async def test_ed25519_has_two_names(
    field: Field, configured: str, in_token: str, in_key: str | None
) -> None:
    field.publish(public(ED, kid="ed", **({"alg": in_key} if in_key else {})))
    await field.configure(configured)
    unsigned = renamed(field.token(ED, "EdDSA", "ed"), in_token)
    signature = base64.urlsafe_b64encode(ED.sign(unsigned.encode())).decode().rstrip("=")
    assert await field.verdict(BearerToken(f"{unsigned}.{signature}")) is None


async def test_two_keys_of_one_name_are_so_under_both_names_of_an_algorithm(field: Field) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    same = [public(ED, kid="ed", alg=name) for name in ("EdDSA", "Ed25519")]
    field.publish(GOOD, *same)
    await field.configure("EdDSA", "RS256")
    assert await field.verdict(field.token(ED, "EdDSA", "ed")) is None
    field.publish(GOOD, same[0], public(other, kid="ed", alg="Ed25519"))
    await field.configure("EdDSA", "RS256")
    assert await field.verdict(field.token(RSA, "RS256", "good")) is None
    for key in (ED, other):
        assert await field.verdict(field.token(key, "EdDSA", "ed")) is Reason.TOKEN_KEY_UNKNOWN


async def test_ed25519_under_both_names_is_one_algorithm(field: Field) -> None:
    field.publish(public(ED, kid="ed"))
    await field.configure("EdDSA", "Ed25519")
    assert await field.verdict(field.token(ED, "EdDSA", "ed")) is None


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((RSA, f"{family}{size}") for family in ("RS", "PS") for size in (384, 512)),
        (EC["P-384"], "ES384"),
        (EC["P-521"], "ES512"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
async def test_longer_hashes_can_be_allowed(field: Field, key: Any, algorithm: str) -> None:  # noqa: ANN401
    field.publish(public(key, kid="k"))
    await field.configure(algorithm)
    assert await field.verdict(field.token(key, algorithm, "k")) is None
    shorter = {"RS": "RS256", "PS": "PS256"}.get(algorithm[:2])
    if shorter:
        refused = await field.verdict(field.token(key, shorter, "k"))
        assert refused is Reason.TOKEN_ALGORITHM_REFUSED


@pytest.mark.parametrize(("algorithm", "length"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
async def test_a_secret_is_as_long_as_its_hash(tmp_path: Path, algorithm: str, length: int) -> None:
    secret = token_hex(length).encode()[:length]
    path = tmp_path / "secret"
    path.write_bytes(secret)
    settings = IssuerSettings.model_validate(
        {"issuer": "https://idp.example", "algorithms": [algorithm], "secret_file": path}
    )
    claims = {"iss": "https://idp.example", "sub": "alice", "aud": RESOURCE, "iat": START}
    claims["exp"] = START + 60
    verifier = JwtVerifier([issuer_of(settings)])
    token = BearerToken(jwt.encode(claims, secret, algorithm))
    await verifier.verify(token, resource=RESOURCE, now=START)
    path.write_bytes(secret[:-1])
    with pytest.raises(ConfigError, match=f"a secret for {algorithm} has {length} bytes or more"):
        issuer_of(settings)


@pytest.mark.parametrize("name", ["HS255", "rs256", "none", "ES256K", "Ed448", ""])
def test_an_unknown_algorithm_is_one_error_that_names_the_supported_ones(name: str) -> None:
    table = {"issuer": "https://idp.example", "algorithms": [name], "discover": True}
    with pytest.raises(ValueError, match=r"is one of HS256, .*, EdDSA, Ed25519") as caught:
        IssuerSettings.model_validate(table)
    assert caught.value.error_count() == 1  # type: ignore[attr-defined]
