"""The sessions that a load runs on, the tokens that go with them, and the requests for both."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import jwt

from authsvc.events import EventType
from authsvc.sessions import Grant, Limits, Record
from authsvc.stores.sqlite import SqliteStore
from authsvc.tokens import token_digest
from authsvc.v1 import auth_pb2 as pb

ISSUER = "https://idp.example"
RESOURCE = "https://mcp.example/mcp"

SUBJECTS = tuple(f"subject-{number:03}" for number in range(500))
"""Who there is. Each has one token, which all its sessions hold: a resolve looks up any of the
sessions, and the tokens still fit into memory."""

WRITES_AT_ONCE = 5_000
"""Fewer than the store lets queue."""

_BUCKETS = tuple(
    f"example-organisation-{number:02}-data-lake-curated-tables-eu-central-1"
    for number in range(32)
)
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
_PERMISSIONS = tuple(f"s3:{verb}{noun}" for verb in ("Get", "Put", "Delete") for noun in _NOUNS)


class IdentityProvider:
    """Signs tokens of about 4 KB: 32 buckets and 24 permissions, as real ones had."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(32)
        self.now = int(time.time())
        self._issued = 0

    def first_token(self, subject: str) -> str:
        """What sessions begin with: issued two hours ago."""
        return self._sign(subject, self.now - 7200)

    def next_token(self, subject: str) -> str:
        """One that was issued later than all before it, a millisecond apart from an hour ago on."""
        self._issued += 1
        return self._sign(subject, self.now - 3600 + self._issued / 1000)

    def _sign(self, subject: str, issue_time: float) -> str:
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": RESOURCE,
            "client_id": "bench",
            "iat": issue_time,
            "exp": self.now + 3600,
            "jti": secrets.token_urlsafe(12),
            "scope": "buckets.read objects.read",
            "roles": ["analyst"],
            "buckets": _BUCKETS,
            "permissions": _PERMISSIONS,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")


@dataclass(frozen=True, slots=True)
class Population:
    """Stored sessions, which go round among ``SUBJECTS``.

    Attributes:
        path: the database file.
        session_ids: their ids.
        owners: the subject of each.
        tokens: the token that all sessions of a subject hold.
        changing: the first so many sessions get new tokens (row 10); the others keep theirs, so
            that a repeated token stays row 8 and does not become row 11.
    """

    path: Path
    session_ids: Sequence[str]
    owners: Mapping[str, str]
    tokens: Mapping[str, str]
    changing: int

    def same_token_requests(self, count: int) -> list[bytes]:
        """Row 8: sessions at random, each with the token that it holds."""
        return self._same_token(
            random.choices(self.session_ids[self.changing :], k=count)  # noqa: S311 - a sample
        )

    def every_token_requests(self) -> list[bytes]:
        """Row 8 with each token once: after these the service has seen them all."""
        return self._same_token(self.session_ids[self.changing :][: len(self.tokens)])

    def new_token_requests(self, idp: IdentityProvider) -> list[bytes]:
        """Row 10: a later token for each of the changing sessions, no session twice, so that no
        two of them race."""
        return [
            _request(session_id, idp.next_token(self.owners[session_id]))
            for session_id in self.session_ids[: self.changing]
        ]

    def _same_token(self, session_ids: Iterable[str]) -> list[bytes]:
        return [
            _request(session_id, self.tokens[self.owners[session_id]]) for session_id in session_ids
        ]


async def fill(path: Path, idp: IdentityProvider, *, sessions: int, changing: int) -> Population:
    """Store authenticated sessions, straight into a new database file.

    Args:
        path: the file; must not exist.
        idp: who issues the tokens.
        sessions: how many.
        changing: see ``Population``; leaves at least one session of each subject.
    """
    ids = [secrets.token_urlsafe(24) for _ in range(sessions)]
    owners = dict(zip(ids, cycle(SUBJECTS), strict=False))
    tokens = {subject: idp.first_token(subject) for subject in SUBJECTS}
    population = Population(path, ids, owners, tokens, changing)
    records = _records(population, idp)
    store = await SqliteStore.open(path, unauthenticated_cap=1)
    try:
        for first in range(0, sessions, WRITES_AT_ONCE):
            batch = records[first : first + WRITES_AT_ONCE]
            await asyncio.gather(*(store.put(record, EventType.CREATED) for record in batch))
    finally:
        await store.close()
    return population


def _records(population: Population, idp: IdentityProvider) -> list[Record]:
    now = float(idp.now)
    expire_time = now + Limits().authenticated_idle_seconds
    grants = {
        subject: {RESOURCE: Grant(token_digest(token), now - 7200, now + 3600, "", "bench")}
        for subject, token in population.tokens.items()
    }
    return [
        Record(session_id, 1, now, now, expire_time, ISSUER, subject, grants[subject])
        for session_id, subject in population.owners.items()
    ]


def _request(session_id: str, token: str) -> bytes:
    return pb.ResolveSessionRequest(
        session_id=session_id, token=token, resource=RESOURCE
    ).SerializeToString()
