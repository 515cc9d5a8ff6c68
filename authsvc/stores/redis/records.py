"""Records and not-befores as the server holds them: see ``prelude.lua``."""

from __future__ import annotations

import base64
import hashlib
import json

from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey
from authsvc.stores.codec import decode_grants, decode_not_before, encode_grants, encode_not_before
from authsvc.stores.recent import Version

FORMAT = 1
"""Of what is written; a reader knows it and the one before."""

TTL_MARGIN_SECONDS = 3600.0
"""How much longer than its record a key lives: sweeps come first, and log what they remove. The
key's own end is for a store that is left alone."""


def subject_index(issuer: str, subject: str) -> str:
    """The name of a subject's set; "-" where there is none."""
    if not subject:
        return "-"
    digest = hashlib.sha256(json.dumps([issuer, subject]).encode()).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode()


def encode_value(record: Record) -> bytes:
    """A record, its id left out."""
    index = subject_index(record.issuer, record.subject)
    line = (
        f"{FORMAT} {record.revision} {record.create_time!r} {record.last_seen_time!r} "
        f"{record.expire_time!r} {index}"
    )
    rest = json.dumps([record.issuer, record.subject, record.revoke_time], separators=(",", ":"))
    return f"{line}\n{rest}\n{encode_grants(record.grants)}".encode("ascii")


def decode_value(session_id: str, value: bytes) -> Record:
    """The inverse of ``encode_value``.

    Raises:
        ValueError: not such a value, or one of a later format.
    """
    line, rest, grants = value.decode("ascii").split("\n")
    number, revision, created, seen, expires, _ = line.split(" ")
    if int(number) != FORMAT:
        raise ValueError(f"a record of format {number}")
    issuer, subject, revoked = json.loads(rest)
    return Record(
        id=session_id,
        revision=int(revision),
        create_time=float(created),
        last_seen_time=float(seen),
        expire_time=float(expires),
        issuer=issuer,
        subject=subject,
        grants=decode_grants(grants),
        revoke_time=revoked,
    )


def version_in(value: bytes) -> Version:
    """Which write a value is, without decoding the rest of it."""
    _, revision, created, _ = value.split(b" ", 3)
    return float(created), int(revision)


def ttl_ms(record: Record) -> int:
    """How long the key of a record written now lives."""
    lifetime = max(0.0, record.expire_time - record.last_seen_time)
    return round((lifetime + TTL_MARGIN_SECONDS) * 1000)


def not_before_field(key: NotBeforeKey) -> str:
    """The field of a not-before in the hash."""
    return json.dumps(key, separators=(",", ":"))


def encode_not_before_value(not_before: NotBefore) -> str:
    """A not-before, with its time in front for the script."""
    return f"{not_before.time!r} {encode_not_before(not_before)}"


def decode_not_before_value(value: bytes) -> NotBefore:
    """The inverse of ``encode_not_before_value``.

    Raises:
        ValueError: not such a value, or one of a later format.
    """
    return decode_not_before(value.split(b" ", 1)[1])
