"""One entry of a JWK Set (RFC 7517 section 4): the keys that it holds, or why it is not used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeGuard

from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from authsvc.tokens.algorithms import ALGORITHMS, KeyMaterial, canonical_name
from authsvc.tokens.compact import MAX_KEY_ID_BYTES
from authsvc.tokens.documents import DuplicateMembers
from authsvc.tokens.jwk_faults import encoding_fault, material_fault
from authsvc.tokens.keys import KeyLoadError, VerificationKey

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")


class SkippedEntry(Exception):  # noqa: N818 - not an error: the rest of the set is used
    """An entry is not used; see ``SkippedKey``."""

    def __init__(self, cause: str, *, is_invalid: bool = True) -> None:
        super().__init__(cause)
        self.is_invalid = is_invalid


@dataclass(frozen=True, slots=True)
class Entry:
    """A usable entry of a JWK Set.

    Attributes:
        label: its name in messages.
        jwk: as it was published.
        keys: its key, once for each algorithm that it is for; once where it states an ``alg``.
    """

    label: str
    jwk: Mapping[str, object] = field(repr=False)
    keys: tuple[VerificationKey, ...]

    @property
    def name(self) -> tuple[object, ...]:
        """That by which a token selects it: its ``kid``, ``kty`` and ``alg``.

        Without ``alg``, its curve decides on the algorithm. ``Ed25519`` is ``EdDSA``.
        """
        key = self.keys[0]
        return key.kid, self.jwk.get("kty"), self.states_algorithm, key.algorithm

    @property
    def states_algorithm(self) -> bool:
        """Whether it has an ``alg``."""
        return self.jwk.get("alg") is not None


def read_entry(jwk: object, index: int, algorithms: Collection[str]) -> Entry:
    """The keys of an entry.

    Args:
        jwk: the entry, as it was parsed.
        index: its place in the set.
        algorithms: see ``parse_jwks``.

    Raises:
        SkippedEntry: it is not used.
    """
    if not isinstance(jwk, dict):
        raise SkippedEntry("is not a JSON object")
    if isinstance(jwk, DuplicateMembers):
        raise SkippedEntry("has a member twice")
    jwk = _present(jwk)
    names = _algorithms(jwk, algorithms)
    try:
        first = _key(jwk, names[0])
        # The material is one object, however many algorithms it is for.
        others = (VerificationKey(first.kid, name, first.material) for name in names[1:])
        return Entry(label_of(jwk, index), jwk, (first, *others))
    except KeyLoadError as error:
        raise SkippedEntry(str(error)) from None


def published_materials(entry: object) -> Iterator[KeyMaterial]:
    """The public keys of an entry that is private: anybody can sign with those.

    None of an entry that holds a public key alone, or nothing that would be used.
    """
    jwk = _present(entry) if isinstance(entry, dict) else {}
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        public = {name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}
        for algorithm in ALGORITHMS:
            if _type_permits(jwk, algorithm):
                with suppress(KeyLoadError):
                    yield _key(public, algorithm).material


def label_of(jwk: object, index: int) -> str:
    """The name of an entry in messages: its place in the set, and its ``kid`` where it has one."""
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    return f"keys[{index}]" + (_labelled(kid) if isinstance(kid, str) else "")


def is_labelled(label: str, kid: str) -> bool:
    """Whether a label of ``label_of`` has this ``kid``."""
    return label.endswith(_labelled(kid))


def _labelled(kid: str) -> str:
    return f" (kid {kid[:64]!r})"


def _present(jwk: Mapping[str, object]) -> dict[str, object]:
    """The members that an entry has. Some serialisers write the others as null, and key_ops as an
    empty list."""
    return {
        name: value
        for name, value in jwk.items()
        if value is not None and not (name == "key_ops" and value == [])
    }


def _algorithms(jwk: Mapping[str, object], algorithms: Collection[str]) -> tuple[str, ...]:
    """The algorithms of a key: its own ``alg``, or the configured ones that its type permits.

    Raises:
        SkippedEntry: there is none, or the key must not be used.
    """
    key_type = jwk.get("kty")
    if key_type == "oct":
        raise SkippedEntry(
            "is a symmetric key, which a JWK Set must not publish; remove it, and replace it where "
            "it is used"
        )
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise SkippedEntry("is private; publish the public key alone, and replace this one")
    _check_purpose(jwk)
    own = jwk.get("alg")
    permitted = tuple(name for name in algorithms if _type_permits(jwk, name))
    if isinstance(own, str):
        name = canonical_name(own)
        if name not in algorithms:
            raise SkippedEntry(f"its alg {_quoted(own)} is not configured", is_invalid=False)
        if name not in permitted:
            raise SkippedEntry(f"{_type(jwk)} does not go with its alg {own!r}")
        return (name,)
    if own is not None:
        raise SkippedEntry("its alg is not a string")
    if not permitted:
        raise SkippedEntry(f"no configured algorithm goes with {_type(jwk)}", is_invalid=False)
    return permitted


def _check_purpose(jwk: Mapping[str, object]) -> None:
    """``use`` and ``key_ops`` (RFC 7517 sections 4.2 and 4.3), where present."""
    use = jwk.get("use", "sig")
    if use != "sig":
        purpose = _quoted(use) if isinstance(use, str) else "no string"
        raise SkippedEntry(f"is not for signatures: its use is {purpose}", is_invalid=False)
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise SkippedEntry("is not for signatures: its key_ops has no 'verify'", is_invalid=False)


def _type(jwk: Mapping[str, object]) -> str:
    """The type of a key, for a message."""
    key_type, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(key_type, str):
        return "a key without kty"
    of_curve = f" with crv {_quoted(curve)}" if isinstance(curve, str) else ""
    return f"its kty {_quoted(key_type)}{of_curve}"


def _quoted(name: str) -> str:
    return repr(name[:64])


def _type_permits(jwk: Mapping[str, object], algorithm: str) -> bool:
    known = ALGORITHMS.get(algorithm)
    if known is None or known.is_symmetric or jwk.get("kty") != known.key_type:
        return False
    return known.curve is None or jwk.get("crv") == known.curve


def _key(jwk: dict[str, object], algorithm: str) -> VerificationKey:
    kid = jwk.get("kid")
    if kid is not None and not _is_key_id(kid):
        raise KeyLoadError(f"its kid is not a string of 1 to {MAX_KEY_ID_BYTES} bytes of UTF-8")
    try:
        material: KeyMaterial = PyJWK(jwk, algorithm).key
    except (PyJWTError, UnsupportedAlgorithm, AttributeError, TypeError, ValueError):
        cause = material_fault(jwk, ALGORITHMS[algorithm])
        raise KeyLoadError(f"is not a valid {algorithm} key: {cause}") from None
    try:
        return VerificationKey(kid, algorithm, material)
    except KeyLoadError:
        if fault := encoding_fault(jwk, ALGORITHMS[algorithm]):
            raise KeyLoadError(f"is not a valid {algorithm} key: {fault}") from None
        raise


def _is_key_id(kid: object) -> TypeGuard[str]:
    try:
        return isinstance(kid, str) and 0 < len(kid.encode()) <= MAX_KEY_ID_BYTES
    except UnicodeEncodeError:
        return False  # a lone surrogate, which no token's kid has
