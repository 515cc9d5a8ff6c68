"""Records and not-befores in the format of the server: see ``prelude.lua``."""

from __future__ import annotations

import base64
import hashlib
import json

from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBefore, NotBeforeKey
from authsvc.stores.codec import (
    decode_grants,
    decode_not_before,
    encode_grants,
    encode_not_before,
    shared,
)
from authsvc.stores.record_cache import Version
from authsvc.stores.redis.failures import unavailable

FORMAT = 1
"""The format that is written. Readers know it and the one before."""

TTL_MARGIN_SECONDS = 3600.0
"""How much later than its record a key expires. Sweeps come first, and log what they remove; the
key's own expiry matters only where no authsvc runs."""


def subject_index(issuer: str, subject: str) -> str:
    """The name of the set of a subject's records; "-" for no subject."""
    if not subject:
        return "-"
    digest = hashlib.sha256(json.dumps([issuer, subject]).encode()).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode()


def encode_value(record: Record) -> bytes:
    """A record, without its id."""
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
        AuthError: STORE_UNAVAILABLE: the value cannot be read, or has a later format.
    """
    try:
        return _decoded(session_id, value)
    except ValueError as error:
        raise unavailable(str(error)) from None


def _decoded(session_id: str, value: bytes) -> Record:
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
        issuer=shared(issuer),
        subject=subject,
        grants=decode_grants(grants),
        revoke_time=revoked,
    )


def version_in(value: bytes) -> Version:
    """The write that a value is of. The rest of the value is not decoded.

    Raises:
        AuthError: as ``decode_value``.
    """
    try:
        _, revision, created, _ = value.split(b" ", 3)
        return float(created), int(revision)
    except ValueError as error:
        raise unavailable(str(error)) from None


def ttl_ms(record: Record) -> int:
    """Time to live of the key of a record that is written now, in milliseconds."""
    lifetime = max(0.0, record.expire_time - record.last_seen_time)
    return round((lifetime + TTL_MARGIN_SECONDS) * 1000)


def not_before_field(key: NotBeforeKey) -> str:
    """The field of a not-before in the hash."""
    return json.dumps(key, separators=(",", ":"))


def encode_not_before_value(not_before: NotBefore) -> str:
    """A not-before, preceded by its time for the script."""
    return f"{not_before.time!r} {encode_not_before(not_before)}"


def decode_not_before_value(value: bytes) -> NotBefore:
    """The inverse of ``encode_not_before_value``.

    Raises:
        AuthError: as ``decode_value``.
    """
    _, _, text = value.partition(b" ")
    try:
        return decode_not_before(text)
    except ValueError as error:
        raise unavailable(str(error)) from None
