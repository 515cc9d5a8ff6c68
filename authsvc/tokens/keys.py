"""Verification keys: loaded from files, each pinned to one algorithm, found by ``kid``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from authsvc.errors import AuthError, Reason
from authsvc.tokens.compact import MAX_KEY_ID_BYTES, parse_json_object

MIN_SECRET_BYTES = 32
"""An HS256 key is as long as the hash, or longer (RFC 7518 section 3.2)."""

MIN_RSA_BITS = 2048
"""RFC 7518 sections 3.3 and 3.5."""

MAX_RSA_BITS = 8192
"""Beyond it, each check of a signature would be a burden of its own."""

MAX_KEYS = 100
"""Keys of one issuer. Nobody needs more, and each costs time to load."""

_KEY_TYPES: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The ``kty`` and ``crv`` of each algorithm with a public key (RFC 7518 section 6, RFC 8037)."""

_ROCA_POWERS = {
    prime: frozenset(pow(65537, exponent, prime) for exponent in range(prime))
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
"""The fingerprint of the chips whose RSA keys can be factored: their moduli are a power of 65537 by
each of these primes, as one sound key in 240 million is (Nemec et al., CCS 2017)."""

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

KeyMaterial = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_MATERIAL: Mapping[str, type[KeyMaterial]] = {
    "HS256": bytes,
    "RS256": RSAPublicKey,
    "PS256": RSAPublicKey,
    "ES256": EllipticCurvePublicKey,
    "EdDSA": Ed25519PublicKey,
}

_ALGORITHMS = {name: get_default_algorithms()[name] for name in _MATERIAL}


class KeyLoadError(Exception):
    """A key is unfit; the message says what to mend and shows no material."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and the one algorithm that it is for (RFC 8725 section 3.1).

    Attributes:
        kid: what tokens call it; None when it has no name.
        algorithm: ``HS256``, ``RS256``, ``PS256``, ``ES256`` or ``EdDSA``.
        material: the secret, or the public key.

    Raises:
        KeyLoadError: too weak, or not a key for that algorithm.
    """

    kid: str | None
    algorithm: str
    material: KeyMaterial = field(repr=False)

    def __post_init__(self) -> None:
        if self.algorithm not in _ALGORITHMS:
            raise KeyLoadError(f"algorithm {self.algorithm!r} is not supported")
        if not isinstance(self.material, _MATERIAL[self.algorithm]):
            raise KeyLoadError(f"is not a key for {self.algorithm}")
        if isinstance(self.material, bytes) and len(self.material) < MIN_SECRET_BYTES:
            raise KeyLoadError(f"an HS256 secret has {MIN_SECRET_BYTES} bytes or more")
        try:
            # Refuses other curves, and public keys that pose as a secret.
            _ALGORITHMS[self.algorithm].prepare_key(self.material)
        except (PyJWTError, ValueError):
            raise KeyLoadError(f"is not a key for {self.algorithm}") from None
        if isinstance(self.material, RSAPublicKey):
            _check_rsa(self.material)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``message``."""
        return _ALGORITHMS[self.algorithm].verify(message, self.material, signature)


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of one issuer; as it never changes, a ``KeySource`` of itself.

    Attributes:
        keys: what it signs with now.
        previous: secrets that the current one has replaced. They have no names, so they are tried
            in turn.

    Raises:
        KeyLoadError: no key, two of one name, one of several without a name, or too many.
    """

    keys: tuple[VerificationKey, ...]
    previous: tuple[VerificationKey, ...] = ()

    def __post_init__(self) -> None:
        if not self.keys:
            raise KeyLoadError("there is no key")
        if len(self.keys) + len(self.previous) > MAX_KEYS:
            raise KeyLoadError(f"there are more than {MAX_KEYS} keys")
        if any(key.algorithm != "HS256" for key in self.previous):
            raise KeyLoadError("only secrets are tried in turn")
        names = Counter(key.kid for key in self.keys)
        if len(self.keys) > 1 and None in names:
            raise KeyLoadError("every one of several keys needs a kid")
        for name, count in names.items():
            if count > 1:
                raise KeyLoadError(f"kid {name!r} is there twice")

    def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        """The one key that a token of this header may have been signed with.

        A token without ``kid`` goes with an only key; so does any ``kid`` with an only key that
        has no name, such as a secret. Nothing is tried in turn.

        Raises:
            AuthError: TOKEN_ALGORITHM_REFUSED unless ``algorithm`` is spelt exactly as the
                key's, TOKEN_KEY_UNKNOWN when no key fits.
        """
        if all(key.algorithm != algorithm for key in self.keys):
            raise AuthError(Reason.TOKEN_ALGORITHM_REFUSED, f"alg {algorithm[:32]!r}")
        key = self._named(kid)
        if key is None:
            raise AuthError(Reason.TOKEN_KEY_UNKNOWN, f"kid {kid[:64]!r}" if kid else "no kid")
        if key.algorithm != algorithm:
            raise AuthError(Reason.TOKEN_ALGORITHM_REFUSED, f"its key is for {key.algorithm}")
        return key

    def candidates(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """The key that ``find`` finds, and the secrets before it.

        Raises:
            AuthError: as ``find``.
        """
        return (self.find(kid, algorithm), *self.previous)

    def current(self, now: float) -> KeySet:
        """See ``KeySource.current``."""
        return self

    async def renew(self, now: float) -> bool:
        """See ``KeySource.renew``."""
        return False

    async def refresh(self, now: float) -> None:
        """See ``KeySource.refresh``."""

    def _named(self, kid: str | None) -> VerificationKey | None:
        only = self.keys[0] if len(self.keys) == 1 else None
        if only is not None and (kid is None or only.kid is None):
            return only
        if kid is None:
            return None
        return next((key for key in self.keys if key.kid == kid), None)


def load_secret_file(path: Path) -> VerificationKey:
    """The HS256 secret in a file: its bytes, without a newline at the end.

    Raises:
        KeyLoadError: unreadable, shorter than 32 bytes, or some other kind of key.
    """
    secret = _read(path).removesuffix(b"\n").removesuffix(b"\r")
    try:
        return VerificationKey(None, "HS256", secret)
    except KeyLoadError as error:
        raise KeyLoadError(f"{path}: {error}") from None


def load_jwks_file(path: Path, algorithms: Collection[str]) -> tuple[VerificationKey, ...]:
    """The keys in a file that holds a JWK Set; see ``parse_jwks``.

    Raises:
        KeyLoadError: unreadable, or as ``parse_jwks``.
    """
    document = _read(path)
    try:
        return parse_jwks(document, algorithms)
    except KeyLoadError as error:
        raise KeyLoadError(f"{path}: {error}") from None


def parse_jwks(document: bytes, algorithms: Collection[str]) -> tuple[VerificationKey, ...]:
    """The keys of a JWK Set (RFC 7517 section 5) that verify signatures.

    Keys for something else (encryption, another algorithm) are left out, as issuers publish all
    theirs together. What is dangerous or broken refuses the whole set: private keys, secrets,
    weak keys, a name twice, an algorithm left open.

    Args:
        document: the set, as JSON.
        algorithms: what the issuer is configured for. Decides for a key without ``alg``.

    Raises:
        KeyLoadError: a key is dangerous or broken, or none is left.
    """
    skipped: list[str] = []
    keys: list[VerificationKey] = []
    for index, jwk in enumerate(_members(document)):
        try:
            algorithm = _algorithm(jwk, algorithms)
            keys.append(_key(jwk, algorithm))
        except _Unused as why:
            skipped.append(f"{_label(jwk, index)} {why}")
        except KeyLoadError as error:
            raise KeyLoadError(f"{_label(jwk, index)}: {error}") from None
    if not keys:
        raise KeyLoadError("; ".join(["no key verifies signatures", *skipped]))
    return KeySet(tuple(keys)).keys


class _Unused(Exception):  # noqa: N818 - not an error: the key is for something else
    """A key that is sound, but not for verifying this issuer's signatures."""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyLoadError(f"{path}: {error.strerror}") from None


def _members(document: bytes) -> list[dict[str, object]]:
    try:
        members = parse_json_object(document).get("keys")
    except ValueError:
        raise KeyLoadError("is not a JSON object without duplicate members") from None
    if not isinstance(members, list) or not all(isinstance(item, dict) for item in members):
        raise KeyLoadError('is not a JWK Set: {"keys": [{…}, …]}')
    return members


def _check_rsa(key: RSAPublicKey) -> None:
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise KeyLoadError(
            f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {key.key_size}"
        )
    modulus = key.public_numbers().n
    if all(modulus % prime in powers for prime, powers in _ROCA_POWERS.items()):
        raise KeyLoadError("can be factored (ROCA, CVE-2017-15361); replace it")


def _label(jwk: Mapping[str, object], index: int) -> str:
    kid = jwk.get("kid")
    return f"keys[{index}]" + (f" (kid {kid[:64]!r})" if isinstance(kid, str) else "")


def _algorithm(jwk: Mapping[str, object], algorithms: Collection[str]) -> str:
    """The one algorithm that a key is for: its own ``alg``, else the only configured one."""
    key_type = jwk.get("kty")
    if key_type == "oct" or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise KeyLoadError("is private; publish the public key alone, and replace this one")
    _check_purpose(jwk)
    own = jwk.get("alg")
    fitting = [name for name in algorithms if _fits(jwk, name)]
    if isinstance(own, str):
        if own not in algorithms:
            raise _Unused("is for an algorithm that is not configured")
        if own not in fitting:
            raise KeyLoadError(f"its kty or crv does not go with its alg {own!r}")
        return own
    if own is not None:
        raise KeyLoadError("its alg is not a string")
    if not fitting:
        raise _Unused("is of a type that no configured algorithm goes with")
    if len(fitting) > 1:
        raise KeyLoadError(f"needs an alg; {' and '.join(sorted(fitting))} both fit")
    return fitting[0]


def _check_purpose(jwk: Mapping[str, object]) -> None:
    """``use`` and ``key_ops`` (RFC 7517 sections 4.2 and 4.3), where present."""
    if jwk.get("use", "sig") != "sig":
        raise _Unused("is not for signatures by its use")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Unused("is not for verifying by its key_ops")


def _fits(jwk: Mapping[str, object], algorithm: str) -> bool:
    if algorithm not in _KEY_TYPES:
        return False
    key_type, curve = _KEY_TYPES[algorithm]
    return jwk.get("kty") == key_type and (curve is None or jwk.get("crv") == curve)


def _key(jwk: dict[str, object], algorithm: str) -> VerificationKey:
    kid = jwk.get("kid")
    if kid is not None and not (
        isinstance(kid, str) and 0 < len(kid.encode("utf-8")) <= MAX_KEY_ID_BYTES
    ):
        raise KeyLoadError(f"its kid is not a string of 1 to {MAX_KEY_ID_BYTES} bytes")
    try:
        material: KeyMaterial = PyJWK(jwk, algorithm).key
    except (PyJWTError, TypeError, ValueError):
        raise KeyLoadError(f"is not a sound {algorithm} key") from None
    return VerificationKey(kid, algorithm, material)
