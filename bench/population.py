"""The sessions that a load runs on, and the tokens that go with them.

All of it follows from a few numbers, so that several processes agree on it without a word: session
n has an id, a subject and a token, whatever the caller.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from authsvc.domain.events import EventType
from authsvc.domain.record import Grant, Limits, Record
from authsvc.domain.tokens import token_digest
from authsvc.stores.sqlite import SqliteStore

ISSUER = "https://idp.example"
RESOURCE = "https://mcp.example/mcp"

TOKEN_BYTES = 4_096
"""As long as real ones were: 32 buckets and 24 permissions."""

LEAST_TOKEN_BYTES = 512

FIRST_AGE_SECONDS = 7_200
"""How long ago the token was issued that a session begins with."""

LATER_AGE_SECONDS = 3_600
"""From when on later ones were issued."""

RSA_BITS = 2_048

KEY_ID = "bench"
"""Header ``kid`` of the tokens of an RSA key."""

WRITES_AT_ONCE = 5_000
"""Fewer than the store lets queue."""

_NOUNS = (
    "Object",
    "ObjectAcl",
    "ObjectTagging",
    "ObjectVersion",
    "ObjectRetention",
    "BucketTagging",
    "BucketPolicy",
    "BucketLogging",
)
_PERMISSIONS = [f"s3:{verb}{noun}" for verb in ("Get", "Put", "Delete") for noun in _NOUNS]


@dataclass(frozen=True)
class Population:
    """Sessions from 0 to ``sessions``, which go round among ``subjects``.

    Attributes:
        sessions: how many there are.
        subjects: how many own them. Each has one token, which all its sessions begin with: a
            resolve looks up any of the sessions, and the tokens still fit into memory.
        now: when all this was made up, seconds since the epoch.
        prefix: what session ids and subjects begin with; not to be guessed, nor used twice.
        secret: the issuer's HS256 secret; for RS256 its private key, PEM.
        algorithm: HS256 or RS256.
        issuer: claim ``iss``.
        resource: claim ``aud``, and what requests name.
        token_bytes: length of a token, about.
    """

    sessions: int
    subjects: int
    now: int = field(default_factory=lambda: int(time.time()))
    prefix: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    algorithm: str = "HS256"
    issuer: str = ISSUER
    resource: str = RESOURCE
    token_bytes: int = TOKEN_BYTES

    @classmethod
    def of(cls, sessions: int, **others: object) -> Self:
        """As many sessions, and 500 subjects at most."""
        return replace(cls(sessions, min(sessions, 500)), **others)  # type: ignore[arg-type] # checked by the dataclass's own types at each call

    @classmethod
    def of_rsa_key(cls, sessions: int) -> Self:
        """As ``of``, with tokens that a new RSA key signs."""
        pem = rsa.generate_private_key(65_537, RSA_BITS).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls.of(sessions, secret=pem.decode(), algorithm="RS256")

    @cached_property
    def signing_key(self) -> Any:  # noqa: ANN401 - PyJWT's own type of a key
        """What signs the tokens, read once."""
        if self.algorithm == "HS256":
            return self.secret
        return serialization.load_pem_private_key(self.secret.encode(), None)

    def public_jwk(self) -> dict[str, Any]:
        """The JWK that verifies the tokens of an RSA key."""
        jwk = RSAAlgorithm.to_jwk(self.signing_key.public_key(), as_dict=True)
        return {**jwk, "kid": KEY_ID, "alg": self.algorithm, "use": "sig"}

    def to_json(self) -> str:
        """For another process of ours."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` gave."""
        return cls(**json.loads(text))

    def session_id(self, number: int) -> str:
        """The id of a session; those beyond ``sessions`` are not stored yet."""
        return f"{self.prefix}-{number:07}"

    def subject(self, number: int) -> str:
        """Whose session it is."""
        return f"{self.prefix[:8]}-{number % self.subjects:05}"

    def first_token(self, number: int) -> str:
        """The token that a session begins with."""
        return self._kept(number % self.subjects, FIRST_AGE_SECONDS)

    def earlier_token(self, number: int) -> str:
        """A token that was issued before that: row 11."""
        return self._kept(number % self.subjects, FIRST_AGE_SECONDS + 60)

    def later_token(self, number: int, order: int) -> str:
        """A token that was issued later, a millisecond after the one of the order before."""
        return self._sign(number, self.now - LATER_AGE_SECONDS + order / 1000)

    def forged_token(self, number: int) -> str:
        """A token whose signature is invalid, and no other is like it."""
        signed, _, _ = self.first_token(number).rpartition(".")
        # As long as a signature is, and below the modulus of an RSA key.
        size = 32 if self.algorithm == "HS256" else RSA_BITS // 8
        made_up = b"\0" + os.urandom(size - 1)
        signature = base64.urlsafe_b64encode(made_up).rstrip(b"=").decode()
        return f"{signed}.{signature}"

    @cached_property
    def _tokens(self) -> dict[tuple[int, int], str]:
        return {}

    def _kept(self, owner: int, age_seconds: int) -> str:
        key = (owner, age_seconds)
        if key not in self._tokens:
            self._tokens[key] = self._sign(owner, self.now - age_seconds)
        return self._tokens[key]

    def _sign(self, number: int, issue_time: float) -> str:
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": self.subject(number),
            "aud": self.resource,
            "client_id": "bench",
            "iat": issue_time,
            "exp": self.now + 3600,
            "jti": f"{number}-{issue_time}",
            "scope": "buckets.read objects.read",
            "roles": ["analyst"],
            "permissions": _PERMISSIONS if self.token_bytes >= 2 * LEAST_TOKEN_BYTES else [],
        }
        # What is signed is base64: three bytes become four. Header and signature are 80 bytes.
        room = max(0, (self.token_bytes - 80) * 3 // 4 - len(json.dumps(claims)))
        number = max(1, min(32, room // 16))
        size = min(80, room // number - len('"", '))
        claims["buckets"] = [f"{place:02}-".ljust(size, "b") for place in range(number)]
        headers = {} if self.algorithm == "HS256" else {"kid": KEY_ID}
        return jwt.encode(claims, self.signing_key, algorithm=self.algorithm, headers=headers)


async def fill(path: Path, population: Population) -> None:
    """Store the sessions, authenticated, straight into a new database file.

    Args:
        path: the file; must not exist.
        population: who they are.
    """
    records = _records(population)
    store = await SqliteStore.open(path, unauthenticated_cap=1)
    try:
        for first in range(0, population.sessions, WRITES_AT_ONCE):
            batch = records[first : first + WRITES_AT_ONCE]
            await asyncio.gather(*(store.put(record, EventType.CREATED) for record in batch))
    finally:
        await store.close()


def _records(population: Population) -> list[Record]:
    now = float(population.now)
    expire_time = now + Limits().authenticated_idle_seconds
    grants = [
        {
            population.resource: Grant(
                token_digest(population.first_token(owner)),
                now - FIRST_AGE_SECONDS,
                now + 3600,
                "",
                "bench",
            )
        }
        for owner in range(population.subjects)
    ]
    return [
        Record(
            population.session_id(number),
            1,
            now,
            now,
            expire_time,
            population.issuer,
            population.subject(number),
            grants[number % population.subjects],
        )
        for number in range(population.sessions)
    ]
