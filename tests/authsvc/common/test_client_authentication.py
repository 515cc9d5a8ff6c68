"""Client authentication at authorization servers, read by code that is not ours."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ssl
from pathlib import Path
from urllib.parse import unquote_plus

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from authsvc.common.client_authentication import (
    ASSERTION_SECONDS,
    ASSERTION_TYPE,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
)
from authsvc.common.client_certificate import ClientCertificate, ThumbprintHeader
from authsvc.common.secret_file import SecretFileError
from authsvc.net.watched_file import WATCH_INTERVAL_SECONDS
from tests.support.clock import START

ENDPOINT = "https://idp.example/introspect"
SETTING = "introspection.client_secret_file"
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(
    key: Key | ed448.Ed448PrivateKey | dsa.DSAPrivateKey,
    encryption: KeySerializationEncryption | None = None,
    form: PrivateFormat = PrivateFormat.PKCS8,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def assertion(method: ClientAuthentication, now: float = START) -> str:
    return method.parameters(ENDPOINT, now).form["client_assertion"]


def read(token: str, key: Key, algorithm: str, audience: str = ENDPOINT) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(
        token,
        key.public_key(),
        algorithms=[algorithm],
        audience=audience,
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [("authsvc", "plain"), ("a:b c", "hush: a/b+c%20é&="), ("ü", "~*-._"), ("a%3Ab", "%")],
)
def test_basic_is_form_encoded(tmp_path: Path, client_id: str, secret: str) -> None:
    (tmp_path / "secret").write_text(f"{secret}\n")
    client = ClientSecretBasic(client_id, tmp_path / "secret", SETTING).parameters(ENDPOINT, START)
    scheme, _, encoded = client.headers["Authorization"].partition(" ")
    assert (scheme, client.form) == ("Basic", {})
    pair = base64.b64decode(encoded).decode("ascii")
    assert [unquote_plus(part) for part in pair.split(":")] == [client_id, secret]
    assert secret not in repr(client)


def test_post_puts_both_in_the_form(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush: a/b+c")
    client = ClientSecretPost("a:b", tmp_path / "secret", SETTING).parameters(ENDPOINT, START)
    assert client.form == {"client_id": "a:b", "client_secret": "hush: a/b+c"}
    assert client.headers == {}
    assert "hush" not in repr(client)


@pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
def test_a_changed_secret_takes_effect_at_once(
    tmp_path: Path, method: type[ClientSecretBasic | ClientSecretPost]
) -> None:
    file = tmp_path / "secret"
    file.write_text("one")
    client = method("c", file, SETTING)
    before = client.parameters(ENDPOINT, START)
    file.write_text("two")
    assert client.parameters(ENDPOINT, START) != before
    file.unlink()
    with pytest.raises(SecretFileError, match="secret"):
        client.parameters(ENDPOINT, START)


@pytest.mark.parametrize(
    ("key", "wanted", "algorithm"),
    [
        (RSA, "", "RS256"),
        (RSA, "PS256", "PS256"),
        (RSA, "RS512", "RS512"),
        (P256, "", "ES256"),
        (P384, "", "ES384"),
        (P521, "ES512", "ES512"),
        (ED, "", "EdDSA"),
    ],
)
def test_an_assertion(tmp_path: Path, key: Key, wanted: str, algorithm: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(pem(key))
    method = PrivateKeyJwt("authsvc", file, SETTING, algorithm=wanted, key_id="k1")
    client = method.parameters(ENDPOINT, START + 0.7)
    assert client.headers == {}
    form = dict(client.form)
    token = form.pop("client_assertion")
    assert form == {"client_id": "authsvc", "client_assertion_type": ASSERTION_TYPE}
    assert token not in repr(client)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    claims = read(token, key, algorithm)
    assert claims.pop("jti")
    assert claims == {
        "iss": "authsvc",
        "sub": "authsvc",
        "aud": ENDPOINT,
        "iat": START,
        "exp": START + ASSERTION_SECONDS,
    }
    assert ASSERTION_SECONDS <= 60


def test_each_assertion_has_an_id_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(pem(P256, form=PrivateFormat.TraditionalOpenSSL))
    method = PrivateKeyJwt("authsvc", file, SETTING, audience="https://idp.example")
    ids = {read(assertion(method), P256, "ES256", "https://idp.example")["jti"] for _ in range(50)}
    assert len(ids) == 50
    assert "kid" not in jwt.get_unverified_header(assertion(method))


def test_a_changed_key_takes_effect(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(pem(P256))
    method = PrivateKeyJwt("authsvc", file, SETTING)
    read(assertion(method), P256, "ES256")
    file.write_bytes(pem(RSA))
    now = START + WATCH_INTERVAL_SECONDS
    read(assertion(method, now), RSA, "RS256")
    file.write_text("half a key")
    for step in (1, 2):
        read(assertion(method, now + step), RSA, "RS256")
    file.write_bytes(pem(ED))
    read(assertion(method, now + 3), ED, "EdDSA")
    file.unlink()
    with pytest.raises(SecretFileError):
        assertion(method, now + 4)


@pytest.mark.parametrize(
    ("content", "wanted", "fault"),
    [
        (b"", "", "empty"),
        (b"\xff\xfe", "", "not text"),
        (b"hush", "", "no private key"),
        (pem(P256, BestAvailableEncryption(b"hush")), "", "password"),
        (pem(rsa.generate_private_key(65537, 1024)), "", "2048"),  # noqa: S505
        (pem(ed448.Ed448PrivateKey.generate()), "", "no RSA, EC or Ed25519"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "", "not for any known algorithm"),
        (pem(P256), "RS256", "not for RS256"),
        (pem(P256), "ES384", "not for ES384"),
        (pem(RSA), "EdDSA", "not for EdDSA"),
        (pem(ED), "ES256", "not for ES256"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_that_cannot_be_used(tmp_path: Path, content: bytes, wanted: str, fault: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    method = PrivateKeyJwt("authsvc", file, SETTING, algorithm=wanted)
    with pytest.raises(SecretFileError, match=fault) as caught:
        assertion(method)
    assert str(file) in str(caught.value)
    assert "hush" not in str(caught.value)


CERTIFICATE_SETTING = "introspection.private_key_certificate_file"


def certificate(key: Key) -> x509.Certificate:
    """A certificate of ``key``, signed by itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authsvc")])
    began = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=9_000))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def certificate_pem(key: Key) -> bytes:
    return certificate(key).public_bytes(Encoding.PEM)


def of_unknown_curve() -> bytes:
    """A certificate whose key nothing here can read."""
    der = certificate(P256).public_bytes(Encoding.DER)
    p256 = bytes.fromhex("06082a8648ce3d030107")
    assert p256 in der
    changed = der.replace(p256, p256[:-1] + b"\x7f")
    return ssl.DER_cert_to_PEM_cert(changed).encode()


def with_certificate(
    key_file: Path, file: Path, header: ThumbprintHeader = "x5t#S256"
) -> PrivateKeyJwt:
    return PrivateKeyJwt(
        "authsvc",
        key_file,
        SETTING,
        certificate=ClientCertificate(file, CERTIFICATE_SETTING, header),
    )


@pytest.mark.parametrize("key", [RSA, P256, ED], ids=["RSA", "EC", "Ed25519"])
@pytest.mark.parametrize(("header", "digest"), [("x5t#S256", "sha256"), ("x5t", "sha1")])
def test_the_thumbprint_of_the_certificate(
    tmp_path: Path, key: Key, header: ThumbprintHeader, digest: str
) -> None:
    """RFC 7515 sections 4.1.7 and 4.1.8: of the DER encoding, without padding."""
    (tmp_path / "key").write_bytes(pem(key))
    own = certificate(key)
    # Those of the authorities may follow.
    (tmp_path / "chain").write_bytes(own.public_bytes(Encoding.PEM) + certificate_pem(P384))
    method = with_certificate(tmp_path / "key", tmp_path / "chain", header)
    found = jwt.get_unverified_header(assertion(method))
    assert found.keys() == {"alg", "typ", header}
    der = own.public_bytes(Encoding.DER)
    assert base64.urlsafe_b64decode(found[header] + "==") == hashlib.new(digest, der).digest()
    assert "=" not in found[header]


@pytest.mark.parametrize("key_first", [True, False])
def test_key_and_certificate_in_one_file(tmp_path: Path, key_first: bool) -> None:
    file = tmp_path / "both"
    parts = [pem(RSA), certificate_pem(RSA)]
    file.write_bytes(b"".join(parts if key_first else reversed(parts)))
    read(assertion(with_certificate(file, file)), RSA, "RS256")


def test_a_renewed_certificate_takes_effect(tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "certificate"
    key.write_bytes(pem(P256))
    file.write_bytes(certificate_pem(P256))
    method = with_certificate(key, file)
    before = jwt.get_unverified_header(assertion(method))
    file.write_bytes(certificate_pem(P256))
    now = START + WATCH_INTERVAL_SECONDS
    after = jwt.get_unverified_header(assertion(method, now))
    assert after["x5t#S256"] != before["x5t#S256"]
    # The last pair signs while a new key waits for its certificate.
    key.write_bytes(pem(P384))
    for step in (1, 2):
        read(assertion(method, now + step), P256, "ES256")
    file.write_bytes(certificate_pem(P384))
    read(assertion(method, now + 3), P384, "ES384")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"hush", "no certificate in PEM"),
        (pem(P256), "no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----", "no certificate"),
        (certificate_pem(P384), "does not belong to the key in .*/key"),
        (certificate_pem(RSA), "does not belong to the key in .*/key"),
        (of_unknown_curve(), "does not belong"),
        # The certificates of authorities come after the key's own.
        (certificate_pem(P384) + certificate_pem(P256), "does not belong"),
    ],
    ids=[
        "missing",
        "empty",
        "text",
        "a key",
        "not DER",
        "same type",
        "another type",
        "curve",
        "order",
    ],
)
def test_a_certificate_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    key, file = tmp_path / "key", tmp_path / "certificate"
    key.write_bytes(pem(P256))
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretFileError, match=fault) as caught:
        assertion(with_certificate(key, file))
    assert str(file) in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.setting == CERTIFICATE_SETTING


def test_a_key_that_cannot_be_used_is_not_the_certificates_fault(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_bytes(certificate_pem(P256))
    with pytest.raises(SecretFileError) as caught:
        assertion(with_certificate(tmp_path / "key", tmp_path / "certificate"))
    assert not caught.value.setting
