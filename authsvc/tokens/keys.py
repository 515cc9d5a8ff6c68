"""Verification keys: each for one algorithm, found by ``kid`` among the keys of its issuer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from authsvc.common.file_faults import file_fault
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.service_status import SkippedKey
from authsvc.net.failures import Stage
from authsvc.tokens.algorithms import ALGORITHMS, KeyMaterial, canonical_name
from authsvc.tokens.weak_keys import weakness_of

MAX_KEYS = 100
"""Entries of one JWK Set that are loaded. Issuers need fewer, and each takes time to load."""

_IMPLEMENTATIONS = {name: get_default_algorithms()[name] for name in ALGORITHMS}


class KeyLoadError(Exception):
    """Keys cannot be loaded or used; the message says what to mend and shows no key material.

    Attributes:
        setting: the setting of the issuer that would mend it; empty where none is known.
        stage: how far the request for them came.
    """

    def __init__(self, detail: str, *, setting: str = "", stage: Stage = Stage.ANSWER) -> None:
        super().__init__(detail)
        self.setting = setting
        self.stage = stage


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and the one algorithm that it is for (RFC 8725 section 3.1).

    Attributes:
        kid: its id, by which tokens name it; None without one.
        algorithm: one of ``ALGORITHMS``.
        material: the secret, or the public key.

    Raises:
        KeyLoadError: it is too weak, or not a key for that algorithm.
    """

    kid: str | None
    algorithm: str
    material: KeyMaterial = field(repr=False)

    def __post_init__(self) -> None:
        algorithm = ALGORITHMS.get(self.algorithm)
        if algorithm is None:
            raise KeyLoadError(f"algorithm {self.algorithm!r} is not supported")
        if not isinstance(self.material, algorithm.material):
            raise KeyLoadError(f"is not a key for {self.algorithm}")
        if isinstance(self.material, bytes) and len(self.material) < algorithm.min_secret_bytes:
            raise KeyLoadError(
                f"a secret for {self.algorithm} has {algorithm.min_secret_bytes} bytes or more"
            )
        try:
            # Rejects other curves, and public keys given as a secret.
            _IMPLEMENTATIONS[self.algorithm].prepare_key(self.material)
        except (PyJWTError, ValueError):
            raise KeyLoadError(f"is not a key for {self.algorithm}") from None
        if weakness := weakness_of(self.material):
            raise KeyLoadError(weakness)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is a signature of ``message`` by this key."""
        if isinstance(self.material, RSAPublicKey) and len(signature) != _size(self.material):
            # RFC 8017 section 8.1.2 step 1. OpenSSL pads a PSS signature that lacks leading zeros.
            return False
        return _IMPLEMENTATIONS[self.algorithm].verify(message, self.material, signature)


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of one issuer; as it never changes, a ``KeySource`` of itself.

    Attributes:
        keys: those that it signs with now; empty where it has published no usable one.
        previous: secrets that the current one has replaced. They have no ``kid``, so they are tried
            one after the other.
        algorithms: those that the issuer is configured for; empty for the algorithms of ``keys``.
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

    clock_offset_seconds = None
    """See ``KeySource``."""

    def __post_init__(self) -> None:
        if not self.keys and not self.algorithms:
            raise KeyLoadError("there is no key")
        # A key for several algorithms is in ``keys`` once for each of them.
        if len({id(key.material) for key in (*self.keys, *self.previous)}) > MAX_KEYS:
            raise KeyLoadError(f"there are more than {MAX_KEYS} keys")
        if any(not ALGORITHMS[key.algorithm].is_symmetric for key in self.previous):
            raise KeyLoadError("only a secret can have previous ones")
        names = Counter((key.kid, key.algorithm) for key in self.keys)
        for (name, algorithm), count in names.items():
            if count > 1:
                raise KeyLoadError(f"kid {name!r} is listed twice for {algorithm}")
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
        """The one key that a token with this header may be signed with.

        If only one key is for the algorithm, it is found for a token without ``kid``, and for any
        ``kid`` if the key has none, such as a secret. No keys are tried one after the other.

        Raises:
            AuthError: TOKEN_ALGORITHM_REFUSED unless ``algorithm`` is exactly one of the issuer's
                and the named key's; TOKEN_KEY_UNKNOWN when there is no such key.
        """
        algorithm = canonical_name(algorithm)
        if algorithm not in self.algorithms:
            raise self._algorithm_refused(algorithm)
        matching = [key for key in self.keys if key.algorithm == algorithm]
        if len(matching) == 1 and (kid is None or matching[0].kid is None):
            return matching[0]
        named = [key for key in self.keys if kid is not None and key.kid == kid]
        for key in named:
            if key.algorithm == algorithm:
                return key
        if named:
            raise AuthError(Reason.TOKEN_ALGORITHM_REFUSED, f"its key is for {named[0].algorithm}")
        raise AuthError(Reason.TOKEN_KEY_UNKNOWN, f"kid {kid[:64]!r}" if kid else "no kid")

    def _algorithm_refused(self, algorithm: str) -> AuthError:
        reason, accepted = Reason.TOKEN_ALGORITHM_REFUSED, ", ".join(sorted(self.algorithms))
        if algorithm.lower() == "none":
            detail = "alg none: the token is not signed; ask its issuer for signed access tokens"
            return AuthError(reason, detail)
        detail = f"alg {algorithm[:32]!r}, accepted {accepted}"
        # A secret does not become a public key by another algorithm.
        kinds = {ALGORITHMS[name].is_symmetric for name in self.algorithms}
        known = ALGORITHMS.get(algorithm)
        can_be_set = known is not None and known.is_symmetric in kinds
        return AuthError(reason, detail, setting="algorithms" if can_be_set else "")

    def candidates(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """The key that ``find`` returns, and the previous secrets.

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


def _size(key: RSAPublicKey) -> int:
    """Bytes of the modulus, and of each signature."""
    return (key.key_size + 7) // 8


def read_key_file(path: Path) -> bytes:
    """The content of a file with keys.

    Raises:
        KeyLoadError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyLoadError(file_fault(path, error)) from None
