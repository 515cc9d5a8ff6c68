"""The keys of a JWK Set (RFC 7517): those that verify signatures, and why each other is skipped.

The entries are read one by one (RFC 7517 section 5). An entry that cannot be used is skipped; it
does not affect the rest of the set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from authsvc.domain.service_status import SkippedKey
from authsvc.tokens.documents import parse_jwk_set
from authsvc.tokens.jwk import Entry, SkippedEntry, label_of, published_materials, read_entry
from authsvc.tokens.key_issuers import other_issuer
from authsvc.tokens.keys import (
    MAX_KEYS,
    KeyLoadError,
    KeySet,
    VerificationKey,
    read_key_file,
)


def load_jwks_file(path: Path, algorithms: Collection[str], *, issuer: str | None = None) -> KeySet:
    """The keys in a file that holds a JWK Set; see ``parse_jwks``.

    Raises:
        KeyLoadError: unreadable, or as ``parse_jwks``.
    """
    document = read_key_file(path)
    try:
        return parse_jwks(document, algorithms, issuer=issuer)
    except KeyLoadError as error:
        raise KeyLoadError(f"{path}: {error}") from None


def parse_jwks(
    document: bytes, algorithms: Collection[str], *, issuer: str | None = None
) -> KeySet:
    """The keys of a JWK Set (RFC 7517 section 5) that verify signatures.

    Entries are skipped if they are for another purpose (encryption, another algorithm), private or
    symmetric, weak or malformed, or if a token could not select one of them. All entries may be
    skipped: then the issuer has no key.

    Args:
        document: the set, as JSON.
        algorithms: those that the issuer is configured for. A key without ``alg`` is for each of
            them that its type permits.
        issuer: whose keys they are; one that names another issuer is skipped. None if not known.

    Raises:
        KeyLoadError: it is no JWK Set.
    """
    try:
        members = parse_jwk_set(document)
    except ValueError as error:
        raise KeyLoadError(str(error)) from None
    entries, skipped = [], []
    for index, jwk in enumerate(members[:MAX_KEYS]):
        try:
            _check_issuer(jwk, issuer)
            entries.append(read_entry(jwk, index, algorithms))
        except SkippedEntry as why:
            skipped.append(SkippedKey(label_of(jwk, index), str(why), why.is_invalid))
    if len(members) > MAX_KEYS:
        rest = f"keys[{MAX_KEYS}] to keys[{len(members) - 1}]"
        skipped.append(SkippedKey(rest, f"are not loaded: more than {MAX_KEYS} keys"))
    entries, unsafe = _without_published(entries, members[:MAX_KEYS])
    entries, unclear = _without_ambiguous(entries)
    keys = tuple(_verification_keys(entries))
    return KeySet(
        keys,
        algorithms=frozenset(algorithms),
        skipped=(*skipped, *unsafe, *unclear, *_replaced(entries, keys)),
    )


def _check_issuer(jwk: object, issuer: str | None) -> None:
    """
    Raises:
        SkippedEntry: the entry names another issuer.
    """
    if issuer is not None and isinstance(jwk, dict):
        named = other_issuer(jwk, issuer)
        if named is not None:
            raise SkippedEntry(f"is for issuer {named[:256]!r}", is_invalid=False)


def _without_published(
    entries: list[Entry], members: list[object]
) -> tuple[list[Entry], list[SkippedKey]]:
    """Leave out public keys whose private key is in the same set: anybody can sign with those."""
    published = [material for jwk in members for material in published_materials(jwk)]
    unsafe = [entry for entry in entries if entry.keys[0].material in published]
    return (
        [entry for entry in entries if entry not in unsafe],
        [
            SkippedKey(entry.label, "is also published with its private key; replace it")
            for entry in unsafe
        ],
    )


def _without_ambiguous(entries: list[Entry]) -> tuple[list[Entry], list[SkippedKey]]:
    """Leave out repeats of a key, and different keys that a token cannot select one of."""
    by_name: dict[tuple[object, ...], list[Entry]] = {}
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


def _verification_keys(entries: list[Entry]) -> Iterator[VerificationKey]:
    """The keys. Of two with the same ``kid`` for one algorithm, the one that states it."""
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


def _replaced(entries: list[Entry], keys: tuple[VerificationKey, ...]) -> Iterator[SkippedKey]:
    """The entries that others stand in for, each with a key of its own."""
    used = {id(key.material) for key in keys}
    for entry in entries:
        material = entry.keys[0].material
        if id(material) not in used and all(material != key.material for key in keys):
            yield SkippedKey(entry.label, "has no alg, and another key with the same kid has one")
