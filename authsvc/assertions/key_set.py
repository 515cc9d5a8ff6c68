"""The set of signing keys: which one signs, how the set rotates, and the JWK Set. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.assertions.keys import SigningKey, base64url

DAY_SECONDS = 86_400.0

RETAINED_SECONDS = 3_600.0
"""How long a key is published after the next one signs: the longest life of an assertion, and far
more than the clocks of replicas and verifiers differ by."""

_FORMAT = 1


class KeySetFormatError(ValueError):
    """A stored key set cannot be read; the message shows nothing of it."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Signing keys, by ``sign_time``; one at least. All of them are published.

    Attributes:
        keys: the one that signed before, while its assertions may be valid; the one that signs; and
            the next one, ``ahead_seconds`` before it signs.
    """

    keys: tuple[SigningKey, ...]

    @classmethod
    def generated(cls, now: float) -> Self:
        """A new set: one key, which signs at once."""
        return cls((SigningKey.generated(now),))

    @property
    def key_ids(self) -> list[str]:
        """``kid`` of each."""
        return [key.kid for key in self.keys]

    def signing(self, now: float) -> SigningKey:
        """The key that signs.

        It is the first one where none should sign yet: the clock of the replica that made it may be
        ahead of this one's.
        """
        return next((key for key in reversed(self.keys) if key.sign_time <= now), self.keys[0])

    def rotated(self, now: float, rotation_seconds: float) -> Self:
        """The set as it has to be now: with the next key where it is due, without those that are
        no longer needed. An equal set where nothing is due.

        The next key is published ``ahead_seconds`` before it signs, however late it is made.
        """
        keys = [
            key
            for key, successor in zip(self.keys, (*self.keys[1:], None), strict=True)
            if successor is None or now < successor.sign_time + RETAINED_SECONDS
        ]
        due, ahead = keys[-1].sign_time + rotation_seconds, ahead_seconds(rotation_seconds)
        if now >= due - ahead:
            keys.append(SigningKey.generated(max(due, now + ahead)))
        return type(self)(tuple(keys))

    def jwks(self) -> bytes:
        """The public keys, a JWK Set (RFC 7517 section 5)."""
        return json.dumps({"keys": [dict(key.jwk) for key in self.keys]}).encode()

    def encoded(self) -> bytes:
        """The keys with their private parts, for ``decoded``. Secret."""
        keys = [
            {
                "sign_time": key.sign_time,
                "d": base64url(key.private.private_numbers().private_value.to_bytes(32)),
            }
            for key in self.keys
        ]
        return json.dumps({"format": _FORMAT, "keys": keys}).encode()

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        """The inverse of ``encoded``.

        Raises:
            KeySetFormatError: it is none, or a later version has written it.
        """
        try:
            document = json.loads(content)
            if document["format"] != _FORMAT:
                raise KeySetFormatError("a later version of authsvc has written it")
            keys = tuple(map(_key, document["keys"]))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, KeySetFormatError):
                raise
            raise KeySetFormatError("it is no key set") from None
        if not keys:
            raise KeySetFormatError("it has no key")
        return cls(keys)


def ahead_seconds(rotation_seconds: float) -> float:
    """How long before it signs a key is published: a day, where a key signs for two or longer.

    This is far longer than ``KeyRing`` uses a set without reading it again, and than verifiers
    cache one: every verifier has a key before it signs.
    """
    return min(DAY_SECONDS, rotation_seconds / 2)


def _key(entry: Mapping[str, Any]) -> SigningKey:
    padded = entry["d"] + "=" * (-len(entry["d"]) % 4)
    scalar = int.from_bytes(base64.urlsafe_b64decode(padded))
    return SigningKey.of(ec.derive_private_key(scalar, ec.SECP256R1()), float(entry["sign_time"]))
