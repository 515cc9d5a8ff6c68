"""Verification end to end: real keys, real signatures, every reason for a rejection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from functools import cache
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken, VerifiedToken, token_digest
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.minting import mint

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
ISSUER = "https://idp.example"
RESOURCE = "https://mcp.example/mcp"
OTHER_RESOURCE = "https://other.example/mcp"
SECRET = b"0123456789abcdef0123456789abcdef"
ALGORITHMS = ("HS256", "RS256", "PS256", "ES256", "EdDSA")


@cache
def signing_key(algorithm: str) -> Any:  # noqa: ANN401 - a key of any kind
    if algorithm == "HS256":
        return SECRET
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def verification_key(algorithm: str, kid: str | None = None) -> VerificationKey:
    key = signing_key(algorithm)
    return VerificationKey(kid, algorithm, key if algorithm == "HS256" else key.public_key())


def key_set(*algorithms: str) -> KeySet:
    """Keys whose ``kid`` is their algorithm."""
    return KeySet(tuple(verification_key(name, name) for name in algorithms))


SECRET_ISSUER = Issuer(ISSUER, KeySet((VerificationKey(None, "HS256", SECRET),)))


def claims(**changes: object) -> dict[str, object]:
    """Those of a valid token; a change to None leaves a claim out."""
    payload = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": RESOURCE,
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "token-1",
        "roles": ["reader"],
        **changes,
    }
    return {name: value for name, value in payload.items() if value is not None}


def signed(
    algorithm: str = "HS256", *, headers: dict[str, Any] | None = None, **changes: object
) -> str:
    return jwt.encode(claims(**changes), signing_key(algorithm), algorithm, headers)


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac_signed(
    header: object, payload: object = None, key: bytes = SECRET, digest: str = "sha256"
) -> str:
    """A token with any header, signed as HS256."""
    body = claims() if payload is None else payload
    parts = segment(json.dumps(header).encode()) + "." + segment(json.dumps(body).encode())
    return parts + "." + segment(hmac.new(key, parts.encode(), digest).digest())


async def verify(
    token: str, *issuers: Issuer, resource: str = RESOURCE, now: float = NOW
) -> VerifiedToken:
    return await JwtVerifier(issuers or [SECRET_ISSUER]).verify(
        BearerToken(token), resource=resource, now=now
    )


async def reason_of(
    token: str, *issuers: Issuer, resource: str = RESOURCE, now: float = NOW
) -> Reason:
    with pytest.raises(AuthError) as refused:
        await verify(token, *issuers, resource=resource, now=now)
    assert token not in str(refused.value)
    return refused.value.reason


# Accepted tokens


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_verifies(algorithm: str) -> None:
    token = signed(algorithm, headers={"kid": algorithm})
    verified = await verify(token, Issuer(ISSUER, key_set(*ALGORITHMS)))
    assert verified.principal.subject == "alice"
    assert verified.principal.issuer == ISSUER
    assert verified.principal.expire_time == NOW + 600
    assert verified.digest == token_digest(token)
    assert verified.issue_time == NOW
    assert verified.token_id == "token-1"


async def test_the_principal_has_the_claims_as_they_were_signed() -> None:
    token = signed(note="é")
    payload = token.split(".")[1]
    verified = await verify(token)
    assert verified.principal.claims_json == base64.urlsafe_b64decode(payload + "==")


async def test_minted_tokens_verify() -> None:
    (key,) = SECRET_ISSUER.keys.current(0.0).keys
    verified = await verify(mint(claims(), key))
    assert verified.principal.subject == "alice"
    named = replace(key, kid="k1")
    issuer = Issuer(ISSUER, KeySet((named,)), token_types=("at+jwt",))
    token = mint(claims(), named, token_type="at+jwt")
    await verify(token, issuer)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "k1", "typ": "at+jwt"}


def test_public_keys_do_not_mint() -> None:
    with pytest.raises(ValueError, match="RS256 cannot sign"):
        mint(claims(), verification_key("RS256"))


async def test_each_issuer_has_its_own_keys_and_mapping() -> None:
    other = Issuer(
        "https://other.example",
        key_set("ES256"),
        mapping=ClaimMapping.of("standard", subject=(ClaimPath("id"),)),
    )
    token = signed("ES256", iss=other.issuer, id="bob")
    assert (await verify(token, SECRET_ISSUER, other)).principal.subject == "bob"
    crossed = signed("HS256", iss=other.issuer, id="bob")
    assert await reason_of(crossed, SECRET_ISSUER, other) is Reason.TOKEN_ALGORITHM_REFUSED


def test_an_issuer_is_named_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        JwtVerifier([SECRET_ISSUER, SECRET_ISSUER])


# Signatures


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_changed_token_does_not_verify(algorithm: str) -> None:
    issuer = Issuer(ISSUER, key_set(*ALGORITHMS))
    header, payload, signature = signed(algorithm, headers={"kid": algorithm}).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    forged = segment(json.dumps(claims(sub="mallory")).encode())
    tampered = [
        f"{header}.{forged}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}.{segment(raw[:-1])}",
        f"{header}.{payload}.{segment(raw + bytes(1))}",
        f"{header}.{payload}.{segment(bytes(1) + raw)}",
        f"{header}.{payload}.{segment(bytes(len(raw)))}",
        f"{header}.{payload}.{segment(bytes([255]) * len(raw))}",
        f"{header}.{payload}.{segment(bytes([raw[0] ^ 1]) + raw[1:])}",
    ]
    for token in tampered:
        assert await reason_of(token, issuer) is Reason.TOKEN_SIGNATURE_INVALID


async def test_another_key_of_the_same_name_does_not_verify() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(claims(), stranger, "ES256", {"kid": "ES256"})
    issuer = Issuer(ISSUER, key_set("ES256", "EdDSA"))
    assert await reason_of(token, issuer) is Reason.TOKEN_SIGNATURE_INVALID


async def test_an_ecdsa_signature_in_der_does_not_verify() -> None:
    parts = signed("ES256").rpartition(".")[0]
    key: ec.EllipticCurvePrivateKey = signing_key("ES256")
    algorithm = ECAlgorithm(ECAlgorithm.SHA256)
    der = key.sign(parts.encode(), ec.ECDSA(algorithm.hash_alg()))
    token = f"{parts}.{segment(der)}"
    issuer = Issuer(ISSUER, key_set("ES256"))
    assert await reason_of(token, issuer) is Reason.TOKEN_SIGNATURE_INVALID


async def test_rs256_and_ps256_are_not_interchangeable() -> None:
    shared = signing_key("RS256")
    issuer = Issuer(ISSUER, KeySet((VerificationKey("k", "RS256", shared.public_key()),)))
    token = jwt.encode(claims(), shared, "PS256", {"kid": "k"})
    assert await reason_of(token, issuer) is Reason.TOKEN_ALGORITHM_REFUSED
    header = segment(b'{"alg":"RS256","kid":"k"}')
    assert (
        await reason_of(f"{header}.{token.split('.', 1)[1]}", issuer)
        is Reason.TOKEN_SIGNATURE_INVALID
    )


# Algorithms and keys

REFUSED_ALGORITHMS = (
    *("none", "None", "NONE", "nOnE", "none ", " none", "", "null", "undefined", "\0none"),
    *("HS384", "HS512", "hs256", "Hs256", "HS256 ", "HMAC", "HmacSHA256", "A128KW", "dir"),
    *("RS256", "ES256", "ES256K", "EdDSA", "Ed25519", "RSA-OAEP", "ｎone"),  # noqa: RUF001
)


@pytest.mark.parametrize("algorithm", REFUSED_ALGORITHMS)
async def test_rejected_algorithms(algorithm: str) -> None:
    token = hmac_signed({"alg": algorithm})
    assert await reason_of(token) is Reason.TOKEN_ALGORITHM_REFUSED
    unsigned = token.rpartition(".")[0] + "."
    assert await reason_of(unsigned) is Reason.TOKEN_ALGORITHM_REFUSED


@pytest.mark.parametrize("digest", ["sha384", "sha512"])
async def test_a_valid_signature_by_a_rejected_algorithm(digest: str) -> None:
    token = hmac_signed({"alg": digest.replace("sha", "HS")}, digest=digest)
    assert await reason_of(token) is Reason.TOKEN_ALGORITHM_REFUSED


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
async def test_a_public_key_is_no_hmac_secret(encoding: serialization.Encoding) -> None:
    public = signing_key("RS256").public_key()
    secret = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    issuer = Issuer(ISSUER, key_set("RS256"))
    token = hmac_signed({"alg": "HS256", "kid": "RS256"}, key=secret)
    assert await reason_of(token, issuer) is Reason.TOKEN_ALGORITHM_REFUSED
    # With a secret of its own, the issuer still checks each kid by its own algorithm alone.
    both = Issuer(ISSUER, key_set("RS256", "HS256"))
    assert await reason_of(token, both) is Reason.TOKEN_ALGORITHM_REFUSED


STRANGER = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "headers",
    [
        {"jwk": RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True)},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIB"]},
    ],
)
async def test_keys_in_a_token_are_not_used(headers: dict[str, Any]) -> None:
    issuer = Issuer(ISSUER, key_set("RS256"))
    for more in (headers, {**headers, "kid": "RS256"}):
        token = jwt.encode(claims(), STRANGER, "RS256", more)
        assert await reason_of(token, issuer) is Reason.TOKEN_SIGNATURE_INVALID
    await verify(signed("RS256", headers=headers), issuer)


@pytest.mark.parametrize(
    "kid", ["other", "", "rs256", "../../dev/null", "' OR 1=1 --", "RS256\0", "\n", "é"]
)
async def test_unknown_keys(kid: str) -> None:
    token = signed("RS256", headers={"kid": kid})
    issuer = Issuer(ISSUER, key_set("RS256", "ES256"))
    assert await reason_of(token, issuer) is Reason.TOKEN_KEY_UNKNOWN


async def test_no_kid_among_several_keys() -> None:
    await verify(signed("RS256"), Issuer(ISSUER, key_set("RS256", "ES256")))
    await verify(signed("RS256"), Issuer(ISSUER, key_set("RS256")))
    one = verification_key("RS256", "one")
    two = VerificationKey("two", "RS256", rsa.generate_private_key(65537, 2048).public_key())
    issuer = Issuer(ISSUER, KeySet((one, two)))
    assert await reason_of(signed("RS256"), issuer) is Reason.TOKEN_KEY_UNKNOWN


# Claims


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": None}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"iss": ""}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"iss": ISSUER + "/"}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"iss": ISSUER.upper()}, Reason.TOKEN_ISSUER_UNKNOWN),
        ({"exp": None}, Reason.TOKEN_CLAIM_MISSING),
        ({"iat": None}, Reason.TOKEN_CLAIM_MISSING),
        ({"sub": None}, Reason.TOKEN_CLAIM_MISSING),
        ({"exp": NOW - 30}, Reason.TOKEN_EXPIRED),
        ({"exp": 0}, Reason.TOKEN_EXPIRED),
        ({"nbf": NOW + 31}, Reason.TOKEN_NOT_YET_VALID),
        ({"iat": NOW + 31}, Reason.TOKEN_NOT_YET_VALID),
        ({"aud": None}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": ""}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": []}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": OTHER_RESOURCE}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": [OTHER_RESOURCE]}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": RESOURCE + "/"}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": RESOURCE[:-1]}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": f"{RESOURCE} {OTHER_RESOURCE}"}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": "*"}, Reason.TOKEN_AUDIENCE_MISMATCH),
        ({"aud": {RESOURCE: True}}, Reason.TOKEN_MALFORMED),
        ({"aud": [RESOURCE, 7]}, Reason.TOKEN_MALFORMED),
        ({"aud": [[RESOURCE]]}, Reason.TOKEN_MALFORMED),
        ({"aud": 7}, Reason.TOKEN_MALFORMED),
        ({"exp": str(NOW + 600)}, Reason.TOKEN_MALFORMED),
        ({"exp": True}, Reason.TOKEN_MALFORMED),
        ({"exp": [NOW + 600]}, Reason.TOKEN_MALFORMED),
        ({"nbf": "soon"}, Reason.TOKEN_MALFORMED),
        ({"iat": {}}, Reason.TOKEN_MALFORMED),
        ({"jti": 7}, Reason.TOKEN_MALFORMED),
        ({"jti": "x" * 1_025}, Reason.TOKEN_TOO_LARGE),
        ({"client_id": "x" * 1_025}, Reason.TOKEN_TOO_LARGE),
        ({"sub": 7}, Reason.TOKEN_MALFORMED),
    ],
)
async def test_rejected_claims(changes: dict[str, object], reason: Reason) -> None:
    token = hmac_signed({"alg": "HS256"}, claims(**changes))
    assert await reason_of(token) is reason


async def test_an_issuer_that_is_not_text() -> None:
    for issuer in (7, [ISSUER], {"iss": ISSUER}):
        token = hmac_signed({"alg": "HS256"}, claims(iss=issuer))
        assert await reason_of(token) is Reason.TOKEN_MALFORMED


async def test_null_is_no_claim() -> None:
    for name in ("exp", "iat"):
        token = hmac_signed({"alg": "HS256"}, {**claims(), name: None})
        assert await reason_of(token) is Reason.TOKEN_CLAIM_MISSING
    token = hmac_signed({"alg": "HS256"}, {**claims(), "aud": None})
    assert await reason_of(token) is Reason.TOKEN_AUDIENCE_MISMATCH


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 29},
        {"nbf": NOW + 30},
        {"iat": NOW + 30},
        {"nbf": NOW - 1000},
        {"exp": int(NOW) + 600, "iat": int(NOW)},
        {"aud": [OTHER_RESOURCE, RESOURCE]},
        {"jti": None},
    ],
)
async def test_accepted_claims(changes: dict[str, Any]) -> None:
    assert (await verify(signed(**changes))).principal.subject == "alice"


async def test_the_leeway_is_the_issuers() -> None:
    strict = replace(SECRET_ISSUER, leeway_seconds=0)
    token = signed(nbf=NOW)
    await verify(token, strict, now=NOW)
    assert await reason_of(token, strict, now=NOW - 0.1) is Reason.TOKEN_NOT_YET_VALID
    await verify(token, strict, now=NOW + 599.9)
    assert await reason_of(token, strict, now=NOW + 600) is Reason.TOKEN_EXPIRED


async def test_required_claims_are_the_issuers() -> None:
    demanding = replace(SECRET_ISSUER, required_claims=("exp", "iat", "client_id"))
    assert await reason_of(signed(), demanding) is Reason.TOKEN_CLAIM_MISSING
    await verify(signed(client_id="app"), demanding)
    lax = replace(SECRET_ISSUER, required_claims=())
    assert (await verify(signed(iat=None), lax)).issue_time == 0
    assert await reason_of(signed(exp=None), lax) is Reason.TOKEN_CLAIM_MISSING


@pytest.mark.parametrize(
    ("token_type", "configured", "accepted"),
    [
        (None, (), True),
        ("JWT", (), True),
        ("jwt", (), True),
        ("application/at+jwt", (), True),
        ("dpop+jwt", (), False),
        ("logout+jwt", (), False),
        ("JWE", (), False),
        ("AT+JWT", ("application/at+jwt",), True),
        ("JWT", ("at+jwt",), False),
        (None, ("at+jwt",), False),
        ("secevent+jwt", ("secevent+jwt",), False),
        ("Application/Logout+JWT", ("application/logout+jwt",), False),
        ("id_token", ("JWT", "id_token"), False),
    ],
)
async def test_token_types(
    token_type: str | None, configured: tuple[str, ...], *, accepted: bool
) -> None:
    header = {"alg": "HS256"} if token_type is None else {"alg": "HS256", "typ": token_type}
    issuer = replace(SECRET_ISSUER, token_types=configured)
    token = hmac_signed(header)
    if accepted:
        await verify(token, issuer)
    else:
        assert await reason_of(token, issuer) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("configured", [(), ("JWT", "secevent+jwt", "logout+jwt")])
@pytest.mark.parametrize(
    ("events", "accepted"),
    [
        ({"http://schemas.openid.net/event/backchannel-logout": {}}, False),
        ({"urn:ietf:params:scim:event:delete": None, "more": {}}, False),
        ({"opening": "a claim of one's own"}, True),
        (["http://schemas.openid.net/event/backchannel-logout"], True),
        ({}, True),
        (None, True),
    ],
)
async def test_a_signal_is_no_access_token(
    events: object, configured: tuple[str, ...], *, accepted: bool
) -> None:
    """Keycloak's logout tokens have typ JWT, and an audience may be a client id."""
    issuer = replace(SECRET_ISSUER, token_types=configured)
    token = hmac_signed({"alg": "HS256", "typ": "JWT"}, claims(events=events))
    if accepted:
        await verify(token, issuer)
    else:
        assert await reason_of(token, issuer) is Reason.TOKEN_MALFORMED


async def test_no_claim_is_used_before_the_signature_is_verified() -> None:
    for changes in ({"exp": NOW - 1000}, {"exp": None}, {"aud": OTHER_RESOURCE}, {"sub": None}):
        token = hmac_signed({"alg": "HS256"}, claims(**changes), key=SECRET[::-1])
        assert await reason_of(token) is Reason.TOKEN_SIGNATURE_INVALID


async def test_a_large_token_is_rejected_before_anything_else() -> None:
    assert await reason_of("a" * 65537) is Reason.TOKEN_TOO_LARGE
    verifier = JwtVerifier([SECRET_ISSUER], max_token_bytes=100)
    with pytest.raises(AuthError) as refused:
        await verifier.verify(BearerToken(signed()), resource=RESOURCE, now=NOW)
    assert refused.value.reason is Reason.TOKEN_TOO_LARGE


# The cache


async def test_a_token_is_checked_once() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    token = signed()
    first = await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    again = await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW + 1)
    assert again == first
    assert verifier.signature_checks == 1
    await verifier.verify(BearerToken(signed(jti="token-2")), resource=RESOURCE, now=NOW)
    assert verifier.signature_checks == 2


async def test_a_cached_token_still_expires() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    token = signed()
    await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW + 629)
    with pytest.raises(AuthError) as refused:
        await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW + 630)
    assert refused.value.reason is Reason.TOKEN_EXPIRED
    assert verifier.signature_checks == 1


async def test_a_cached_token_is_not_valid_before_its_time() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    token = signed(nbf=NOW)
    await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    with pytest.raises(AuthError) as refused:
        await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW - 31)
    assert refused.value.reason is Reason.TOKEN_NOT_YET_VALID


async def test_a_token_is_cached_for_its_resource_alone() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    token = signed()
    await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    with pytest.raises(AuthError) as refused:
        await verifier.verify(BearerToken(token), resource=OTHER_RESOURCE, now=NOW)
    assert refused.value.reason is Reason.TOKEN_AUDIENCE_MISMATCH


@pytest.mark.parametrize(
    "refused_token",
    [signed(exp=NOW - 100), signed()[:-4] + "AAAA"],
    ids=["expired", "forged, by a key without a name"],
)
async def test_a_rejection_that_may_change_is_not_cached(refused_token: str) -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    for checks in (1, 2):
        with pytest.raises(AuthError):
            await verifier.verify(BearerToken(refused_token), resource=RESOURCE, now=NOW)
        assert verifier.signature_checks == checks


async def test_a_token_that_came_too_early_is_served_in_its_time() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    token = signed(nbf=NOW + 100)
    with pytest.raises(AuthError):
        await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW + 100)


async def test_the_cache_evicts_what_was_used_least_recently() -> None:
    verifier = JwtVerifier([SECRET_ISSUER], cache_size=2)
    one, two, three = (signed(jti=name) for name in ("1", "2", "3"))
    for token in (one, two, one, three):
        await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    assert verifier.signature_checks == 3
    await verifier.verify(BearerToken(one), resource=RESOURCE, now=NOW)
    await verifier.verify(BearerToken(three), resource=RESOURCE, now=NOW)
    assert verifier.signature_checks == 3
    await verifier.verify(BearerToken(two), resource=RESOURCE, now=NOW)
    assert verifier.signature_checks == 4


async def test_the_cache_can_be_off() -> None:
    verifier = JwtVerifier([SECRET_ISSUER], cache_size=0)
    for checks in (1, 2):
        await verifier.verify(BearerToken(signed()), resource=RESOURCE, now=NOW)
        assert verifier.signature_checks == checks


async def test_two_tokens_in_turn_keep_their_identities() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    alice, bob = signed(), signed(sub="bob")
    for _ in range(3):
        for token, subject in ((alice, "alice"), (bob, "bob")):
            verified = await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
            assert verified.principal.subject == subject


async def test_the_cache_holds_no_token() -> None:
    verifier = JwtVerifier([SECRET_ISSUER])
    token = signed()
    await verifier.verify(BearerToken(token), resource=RESOURCE, now=NOW)
    held = repr(verifier._cache.items())
    assert token not in held
    assert token.rpartition(".")[2] not in held
    assert hashlib.sha256(token.encode()).digest() in {key[0] for key, _ in verifier._cache.items()}


# Arbitrary input


def outcome(token: str) -> Reason | None:
    async def attempt() -> Reason | None:
        try:
            await verify(token)
        except AuthError as error:
            return error.reason
        return None

    return anyio.run(attempt)


UNHURRIED = settings(deadline=None, max_examples=60)


@UNHURRIED
@given(st.text(max_size=200))
def test_any_text_is_rejected(text: str) -> None:
    assert outcome(text) is Reason.TOKEN_MALFORMED


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CLAIM_NAMES = st.sampled_from(sorted(claims() | {"nbf": 0, "scope": "", "client_id": ""}))


@UNHURRIED
@given(st.dictionaries(CLAIM_NAMES, JSON_VALUES, min_size=1, max_size=3))
def test_any_signed_claims_are_accepted_or_rejected(changes: dict[str, object]) -> None:
    outcome(hmac_signed({"alg": "HS256"}, {**claims(), **changes}))


@UNHURRIED
@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "cty"]), JSON_VALUES, min_size=1))
def test_any_header_is_accepted_or_rejected(changes: dict[str, object]) -> None:
    outcome(hmac_signed({"alg": "HS256", **changes}))


@UNHURRIED
@given(st.sampled_from(ALGORITHMS), st.binary(max_size=300))
def test_any_other_signature_is_rejected(algorithm: str, signature: bytes) -> None:
    assert not verification_key(algorithm).verifies(b"message", signature)
