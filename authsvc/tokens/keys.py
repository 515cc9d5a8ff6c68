"""Verification keys: read from JWK Sets and secret files, each for one algorithm, found by ``kid``.

The entries of a JWK Set are judged one by one (RFC 7517 section 5). An entry that cannot be used is
skipped; it never keeps the rest of the set from counting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from authsvc.common import guessable
from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.compact import MAX_KEY_ID_BYTES
from authsvc.tokens.entries import DuplicateMembers, parse_jwk_set
from authsvc.tokens.flaws import flaw

MIN_SECRET_BYTES = 32
"""An HS256 key is as long as the hash, or longer (RFC 7518 section 3.2)."""

MIN_RSA_BITS = 2048
"""RFC 7518 sections 3.3 and 3.5."""

MAX_RSA_BITS = 8192
"""Beyond it, each check of a signature would be a burden of its own."""

MAX_KEYS = 100
"""Entries of one JWK Set that are looked at. Nobody needs more, and each costs time to load."""

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

_ED25519_PRIME = 2**255 - 19
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _ED25519_PRIME - 1,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    }
)
"""The y coordinates of the Ed25519 points of order 1, 2, 4 and 8. Where one is the public key, one
guess in eight is a signature."""

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
        if isinstance(self.material, Ed25519PublicKey):
            _check_ed25519(self.material)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``message``."""
        if isinstance(self.material, RSAPublicKey) and len(signature) != _size(self.material):
            # RFC 8017 section 8.1.2 step 1. OpenSSL adds zeros that a PSS signature lacks in front.
            return False
        return _ALGORITHMS[self.algorithm].verify(message, self.material, signature)


@dataclass(frozen=True, slots=True)
class SkippedKey:
    """An entry of a JWK Set that is not used.

    Attributes:
        entry: which one: its place in the set, and its ``kid``.
        cause: why. Never material.
        is_odd: whether somebody should look at it. False for a sound key that is for something
            else, as issuers publish all their keys together.
    """

    entry: str
    cause: str
    is_odd: bool = True

    def __str__(self) -> str:
        return f"{self.entry}: {self.cause}"


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of one issuer; as it never changes, a ``KeySource`` of itself.

    Attributes:
        keys: what it signs with now. None at all where it has published none that can be used.
        previous: secrets that the current one has replaced. They have no names, so they are tried
            in turn.
        algorithms: what the issuer is configured for; empty for the algorithms of ``keys``.
        skipped: entries of its JWK Set that are not used.
        failure: see ``KeySource.failure``: why a secret is the last one that could be read.

    Raises:
        KeyLoadError: neither a key nor an algorithm, two keys of one name and algorithm, or too
            many.
    """

    keys: tuple[VerificationKey, ...]
    previous: tuple[VerificationKey, ...] = ()
    algorithms: frozenset[str] = frozenset()
    skipped: tuple[SkippedKey, ...] = ()
    failure: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.keys and not self.algorithms:
            raise KeyLoadError("there is no key")
        # A key that several algorithms fit is there once for each of them.
        if len({id(key.material) for key in (*self.keys, *self.previous)}) > MAX_KEYS:
            raise KeyLoadError(f"there are more than {MAX_KEYS} keys")
        if any(key.algorithm != "HS256" for key in self.previous):
            raise KeyLoadError("only secrets are tried in turn")
        names = Counter((key.kid, key.algorithm) for key in self.keys)
        for (name, algorithm), count in names.items():
            if count > 1:
                raise KeyLoadError(f"kid {name!r} is there twice for {algorithm}")
        if not self.algorithms:
            own = frozenset(key.algorithm for key in self.keys)
            object.__setattr__(self, "algorithms", own)

    def check_usable(self) -> None:
        """
        Raises:
            KeyLoadError: there is no key; the message says why each entry was skipped.
        """
        if not self.keys:
            raise KeyLoadError("; ".join(["no key verifies signatures", *map(str, self.skipped)]))

    def find(self, kid: str | None, algorithm: str) -> VerificationKey:
        """The one key that a token of this header may have been signed with.

        A token without ``kid`` goes with the only key that is for its algorithm; so does any
        ``kid`` where that only key has no name, such as a secret. Nothing is tried in turn.

        Raises:
            AuthError: TOKEN_ALGORITHM_REFUSED unless ``algorithm`` is spelt exactly as one of
                the issuer's and as the named key's, TOKEN_KEY_UNKNOWN when no key fits.
        """
        if algorithm not in self.algorithms:
            raise AuthError(Reason.TOKEN_ALGORITHM_REFUSED, f"alg {algorithm[:32]!r}")
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        if len(fitting) == 1 and (kid is None or fitting[0].kid is None):
            return fitting[0]
        named = [key for key in self.keys if kid is not None and key.kid == kid]
        for key in named:
            if key.algorithm == algorithm:
                return key
        if named:
            raise AuthError(Reason.TOKEN_ALGORITHM_REFUSED, f"its key is for {named[0].algorithm}")
        raise AuthError(Reason.TOKEN_KEY_UNKNOWN, f"kid {kid[:64]!r}" if kid else "no kid")

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


def load_secret_file(path: Path) -> VerificationKey:
    """The HS256 secret in a file: its bytes, without a newline at the end.

    Raises:
        KeyLoadError: unreadable, shorter than 32 bytes, to be guessed, or some other kind of key.
    """
    secret = _read(path).removesuffix(b"\n").removesuffix(b"\r")
    try:
        key = VerificationKey(None, "HS256", secret)
    except KeyLoadError as error:
        raise KeyLoadError(f"{path}: {error}") from None
    if fault := guessable.fault(secret):
        raise KeyLoadError(f"{path}: the secret can be guessed: {fault}; {guessable.REMEDY}")
    return key


def load_jwks_file(path: Path, algorithms: Collection[str]) -> KeySet:
    """The keys in a file that holds a JWK Set; see ``parse_jwks``.

    Raises:
        KeyLoadError: unreadable, or as ``parse_jwks``.
    """
    document = _read(path)
    try:
        return parse_jwks(document, algorithms)
    except KeyLoadError as error:
        raise KeyLoadError(f"{path}: {error}") from None


def parse_jwks(document: bytes, algorithms: Collection[str]) -> KeySet:
    """The keys of a JWK Set (RFC 7517 section 5) that verify signatures.

    Each entry is judged by itself. Skipped are keys for something else (encryption, another
    algorithm), private and symmetric keys, weak and broken ones, and those that a token could not
    choose between. The set may have no key left: then its issuer has none.

    Args:
        document: the set, as JSON.
        algorithms: what the issuer is configured for. A key without ``alg`` is for each of them
            that its type fits.

    Raises:
        KeyLoadError: it is no JWK Set at all.
    """
    try:
        members = parse_jwk_set(document)
    except ValueError as error:
        raise KeyLoadError(str(error)) from None
    entries, skipped = [], []
    for index, jwk in enumerate(members[:MAX_KEYS]):
        try:
            entries.append(_entry(jwk, index, algorithms))
        except _Skipped as why:
            skipped.append(SkippedKey(_label(jwk, index), str(why), why.is_odd))
    if len(members) > MAX_KEYS:
        rest = f"keys[{MAX_KEYS}] to keys[{len(members) - 1}]"
        skipped.append(SkippedKey(rest, f"are not looked at: more than {MAX_KEYS} keys"))
    entries, unsafe = _without_published(entries, members[:MAX_KEYS])
    entries, unclear = _without_ambiguous(entries)
    return KeySet(
        tuple(_verification_keys(entries)),
        algorithms=frozenset(algorithms),
        skipped=(*skipped, *unsafe, *unclear),
    )


class _Skipped(Exception):  # noqa: N818 - not an error: the rest of the set counts
    """An entry is not used."""

    def __init__(self, cause: str, *, is_odd: bool = True) -> None:
        super().__init__(cause)
        self.is_odd = is_odd


@dataclass(frozen=True, slots=True)
class _Entry:
    """A sound entry of a JWK Set.

    Attributes:
        label: names it in messages.
        jwk: as it was published.
        keys: itself, once for each algorithm that it is for; one where it states an ``alg``.
    """

    label: str
    jwk: Mapping[str, object] = field(repr=False)
    keys: tuple[VerificationKey, ...]

    @property
    def name(self) -> tuple[object, object, object]:
        """What tells it from the other entries."""
        return self.jwk.get("kid"), self.jwk.get("kty"), self.jwk.get("alg")

    @property
    def states_algorithm(self) -> bool:
        """Whether it says itself what it is for."""
        return self.jwk.get("alg") is not None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyLoadError(f"{path}: {error.strerror}") from None


def _entry(jwk: object, index: int, algorithms: Collection[str]) -> _Entry:
    """
    Raises:
        _Skipped: it is not used.
    """
    if not isinstance(jwk, dict):
        raise _Skipped("is not a JSON object")
    if isinstance(jwk, DuplicateMembers):
        raise _Skipped("has a member twice")
    fitting = _algorithms(jwk, algorithms)
    try:
        first = _key(jwk, fitting[0])
        # One object for the material, however many algorithms it is for.
        others = (VerificationKey(first.kid, name, first.material) for name in fitting[1:])
        return _Entry(_label(jwk, index), jwk, (first, *others))
    except KeyLoadError as error:
        raise _Skipped(str(error)) from None


_PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")


def _without_published(
    entries: list[_Entry], members: list[object]
) -> tuple[list[_Entry], list[SkippedKey]]:
    """Leave out public keys whose private half is in the same set: anybody signs with those."""
    published = [
        material
        for jwk in members
        if isinstance(jwk, dict) and not _PRIVATE_MEMBERS.isdisjoint(jwk)
        for material in _public_half(jwk)
    ]
    unsafe = [entry for entry in entries if entry.keys[0].material in published]
    return (
        [entry for entry in entries if entry not in unsafe],
        [
            SkippedKey(entry.label, "is also published with its private key; replace it")
            for entry in unsafe
        ],
    )


def _public_half(jwk: Mapping[str, object]) -> Iterator[KeyMaterial]:
    """The public key in a private one, however it is spelt; none where it would not be used."""
    public = {name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}
    for algorithm in _KEY_TYPES:
        if _fits(jwk, algorithm):
            with suppress(KeyLoadError):
                yield _key(public, algorithm).material


def _without_ambiguous(entries: list[_Entry]) -> tuple[list[_Entry], list[SkippedKey]]:
    """Leave out repeats of a key, and different keys that a token could not choose between."""
    by_name: dict[tuple[object, object, object], list[_Entry]] = {}
    for entry in entries:
        alike = by_name.setdefault(entry.name, [])
        if all(other.keys != entry.keys for other in alike):
            alike.append(entry)
    unclear = [
        SkippedKey(entry.label, "is one of several different keys with the same kid, kty and alg")
        for alike in by_name.values()
        if len(alike) > 1
        for entry in alike
    ]
    return [alike[0] for alike in by_name.values() if len(alike) == 1], unclear


def _verification_keys(entries: list[_Entry]) -> Iterator[VerificationKey]:
    """The keys, each once: of two with one name for one algorithm, the one that states it."""
    stated = {
        (key.kid, key.algorithm)
        for entry in entries
        if entry.states_algorithm
        for key in entry.keys
    }
    for entry in entries:
        for key in entry.keys:
            if entry.states_algorithm or (key.kid, key.algorithm) not in stated:
                yield key


def _size(key: RSAPublicKey) -> int:
    """The bytes of a modulus, and of each signature."""
    return (key.key_size + 7) // 8


def _check_rsa(key: RSAPublicKey) -> None:
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise KeyLoadError(
            f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {key.key_size}"
        )
    modulus = key.public_numbers().n
    if all(modulus % prime in powers for prime, powers in _ROCA_POWERS.items()):
        raise KeyLoadError("can be factored (ROCA, CVE-2017-15361); replace it")


def _check_ed25519(key: Ed25519PublicKey) -> None:
    # RFC 8032 section 5.1.3: little-endian, the highest bit is the sign of x.
    y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255
    if y % _ED25519_PRIME in _SMALL_ORDER_Y:
        raise KeyLoadError("is a point of small order, for which anybody can sign; replace it")


def _label(jwk: object, index: int) -> str:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    return f"keys[{index}]" + (f" (kid {kid[:64]!r})" if isinstance(kid, str) else "")


def _algorithms(jwk: Mapping[str, object], algorithms: Collection[str]) -> tuple[str, ...]:
    """What a key is for: its own ``alg``, else what is configured and fits its type.

    Raises:
        _Skipped: nothing.
    """
    key_type = jwk.get("kty")
    if key_type == "oct" or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise _Skipped("is private; publish the public key alone, and replace this one")
    _check_purpose(jwk)
    own = jwk.get("alg")
    fitting = tuple(name for name in algorithms if _fits(jwk, name))
    if isinstance(own, str):
        if own not in algorithms:
            raise _Skipped(f"its alg {_quoted(own)} is not configured", is_odd=False)
        if own not in fitting:
            raise _Skipped(f"{_type(jwk)} does not go with its alg {own!r}")
        return (own,)
    if own is not None:
        raise _Skipped("its alg is not a string")
    if not fitting:
        raise _Skipped(f"no configured algorithm goes with {_type(jwk)}", is_odd=False)
    return fitting


def _check_purpose(jwk: Mapping[str, object]) -> None:
    """``use`` and ``key_ops`` (RFC 7517 sections 4.2 and 4.3), where present."""
    use = jwk.get("use", "sig")
    if use != "sig":
        purpose = _quoted(use) if isinstance(use, str) else "no string"
        raise _Skipped(f"is not for signatures: its use is {purpose}", is_odd=False)
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Skipped("is not for signatures: its key_ops has no 'verify'", is_odd=False)


def _type(jwk: Mapping[str, object]) -> str:
    """The type of a key, for a message."""
    key_type, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(key_type, str):
        return "a key without kty"
    of_curve = f" with crv {_quoted(curve)}" if isinstance(curve, str) else ""
    return f"its kty {_quoted(key_type)}{of_curve}"


def _quoted(name: str) -> str:
    return repr(name[:64])


def _fits(jwk: Mapping[str, object], algorithm: str) -> bool:
    if algorithm not in _KEY_TYPES:
        return False
    key_type, curve = _KEY_TYPES[algorithm]
    return jwk.get("kty") == key_type and (curve is None or jwk.get("crv") == curve)


def _key(jwk: dict[str, object], algorithm: str) -> VerificationKey:
    kid = jwk.get("kid")
    if kid is not None and not _is_key_id(kid):
        raise KeyLoadError(f"its kid is not a string of 1 to {MAX_KEY_ID_BYTES} bytes of UTF-8")
    try:
        material: KeyMaterial = PyJWK(jwk, algorithm).key
    except (PyJWTError, UnsupportedAlgorithm, AttributeError, TypeError, ValueError):
        cause = flaw(jwk, _KEY_TYPES[algorithm][0])
        raise KeyLoadError(f"is not a sound {algorithm} key: {cause}") from None
    return VerificationKey(kid, algorithm, material)


def _is_key_id(kid: object) -> TypeGuard[str]:
    try:
        return isinstance(kid, str) and 0 < len(kid.encode()) <= MAX_KEY_ID_BYTES
    except UnicodeEncodeError:
        return False  # a lone surrogate, which no token's kid has
