"""Client authentication by an assertion that authsvc signs for each request."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authsvc.common.client_authentication.method import ClientParameters
from authsvc.common.client_certificate import ClientCertificate
from authsvc.common.file_faults import is_missing
from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.net.watched_file import NewEntries, WatchedFile

log = logging.getLogger(__name__)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

ASSERTION_SECONDS = 60
"""How long an assertion is valid."""

MIN_RSA_BITS = 2048
"""The shortest RSA key that signs (RFC 7518 section 3.3)."""

_ALGORITHMS_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey


@dataclass(frozen=True, slots=True)
class _Signing:
    """How assertions are signed: the key, its algorithm, and the headers that name it."""

    key: _PrivateKey = field(repr=False)
    algorithm: str
    headers: Mapping[str, str]


class PrivateKeyJwt:
    """``private_key_jwt``: an assertion that the client signs (RFC 7523 sections 2.2 and 3).

    Args:
        client_id: the client's name at the authorization server.
        file: its private key, PEM, without a password. A changed file takes effect.
        setting: see ``ClientAuthentication.setting``.
        algorithm: the signature's; empty for the usual one of the key's type.
        key_id: header ``kid``; empty for none.
        audience: claim ``aud``; empty for the endpoint's URL.
        certificate: the key's certificate, whose thumbprint the header has; None for none. A
            changed file takes effect.
    """

    def __init__(
        self,
        client_id: str,
        file: Path,
        setting: str,
        *,
        algorithm: str = "",
        key_id: str = "",
        audience: str = "",
        certificate: ClientCertificate | None = None,
    ) -> None:
        self._client_id = client_id
        self._file = file
        self.setting = setting
        self._algorithm = algorithm
        self._key_id = key_id
        self._audience = audience
        self._certificate = certificate
        self._watched = (
            WatchedFile(file) if certificate is None else WatchedFile(file, certificate.file)
        )
        self._signing: _Signing | None = None
        self._failures: NewEntries[str] = NewEntries()

    def parameters(self, endpoint: str, now: float) -> ClientParameters:
        """See ``ClientAuthentication.parameters``."""
        signing = self._current(now)
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._audience or endpoint,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
        }
        assertion = jwt.encode(claims, signing.key, signing.algorithm, dict(signing.headers))
        return ClientParameters(
            {
                "client_id": self._client_id,
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": assertion,
            },
            secret=assertion,
        )

    def _current(self, now: float) -> _Signing:
        if self._watched.changed(now) or self._signing is None:
            try:
                self._signing = self._read()
            except SecretFileError as error:
                if self._signing is None or is_missing(self._file):
                    raise
                # One of two files may have been replaced, or one be half written.
                for line in self._failures.of([str(error)]):
                    log.warning("%s; the last key stays in use", line)
            else:
                self._failures.of([])
                self._watched.mark_read()
        return self._signing

    def _read(self) -> _Signing:
        key = _read_private_key(self._file)
        headers = {"kid": self._key_id} if self._key_id else {}
        if self._certificate is not None:
            headers |= self._certificate.headers(key.public_key(), self._file)
        return _Signing(key, _algorithm(key, self._algorithm, self._file), headers)


def _read_private_key(path: Path) -> _PrivateKey:
    pem = read_secret_file(path).encode()
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise SecretFileError(f"{path}: the private key has a password") from None
    except (ValueError, UnsupportedAlgorithm):
        # The error itself may quote the file.
        raise SecretFileError(f"{path}: holds no private key in PEM") from None
    if not isinstance(key, _PrivateKey):
        raise SecretFileError(f"{path}: is no RSA, EC or Ed25519 key")
    if isinstance(key, RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise SecretFileError(f"{path}: the RSA key is shorter than {MIN_RSA_BITS} bits")
    return key


def _algorithm(key: _PrivateKey, wanted: str, path: Path) -> str:
    """The algorithm to sign with: the wanted one, or the usual one of the key's type."""
    if isinstance(key, EllipticCurvePrivateKey):
        possible = [_ALGORITHMS_BY_CURVE.get(key.curve.name, "")]
    elif isinstance(key, RSAPrivateKey):
        possible = [*_RSA_ALGORITHMS]
    else:
        possible = ["EdDSA"]
    algorithm = wanted or possible[0]
    if algorithm not in possible or not algorithm:
        raise SecretFileError(f"{path}: the key is not for {wanted or 'any known algorithm'}")
    return algorithm
