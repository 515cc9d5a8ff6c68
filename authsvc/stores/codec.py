"""Records and not-befores as versioned JSON text, for the stores.

A release first reads a new format and still writes the one before; the next release writes it. So
replicas of two successive releases work over one store.
"""

from __future__ import annotations

import base64
import json
import sys
from binascii import b2a_base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from authsvc.domain.record import Grant, Record
from authsvc.domain.revocation import NotBefore

FORMAT = 1
"""The format that is written."""


def encode_record(record: Record) -> str:
    """A record, as a JSON object."""
    return _json(
        {
            "format": FORMAT,
            "id": record.id,
            "revision": record.revision,
            "create_time": record.create_time,
            "last_seen_time": record.last_seen_time,
            "expire_time": record.expire_time,
            "issuer": record.issuer,
            "subject": record.subject,
            "revoke_time": record.revoke_time,
            "grants": _grants(record.grants),
        }
    )


def decode_record(text: str | bytes) -> Record:
    """The inverse of ``encode_record``.

    Raises:
        ValueError: the text is malformed, or has a later format.
    """
    document = _of_known_format(text)
    try:
        return Record(
            id=document["id"],
            revision=document["revision"],
            create_time=document["create_time"],
            last_seen_time=document["last_seen_time"],
            expire_time=document["expire_time"],
            issuer=shared(document["issuer"]),
            subject=document["subject"],
            revoke_time=document["revoke_time"],
            grants=_of_grants(document["grants"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record: {error}") from None


def encode_grants(grants: Mapping[str, Grant]) -> str:
    """Grants by resource, as a JSON object."""
    return _json({"format": FORMAT, "grants": _grants(grants)})


def decode_grants(text: str) -> Mapping[str, Grant]:
    """The inverse of ``encode_grants``.

    Raises:
        ValueError: the text is malformed, or has a later format.
    """
    return _of_grants(_of_known_format(text)["grants"])


def shared(text: str) -> str:
    """The same text, in memory once for all records: for issuers and resources, which the
    configuration bounds, and for nothing that a client can choose."""
    return sys.intern(text) if type(text) is str else text


def encode_not_before(not_before: NotBefore) -> str:
    """A not-before, as a JSON object."""
    return _json(
        {
            "format": FORMAT,
            "time": not_before.time,
            "set_time": not_before.set_time,
            "issuer": not_before.issuer,
            "subject": not_before.subject,
            "token_id": not_before.token_id,
            "provider_session": not_before.provider_session,
        }
    )


def decode_not_before(text: str | bytes) -> NotBefore:
    """The inverse of ``encode_not_before``.

    Raises:
        ValueError: the text is malformed, or has a later format.
    """
    document = _of_known_format(text)
    try:
        return NotBefore(
            time=document["time"],
            set_time=document["set_time"],
            issuer=document["issuer"],
            subject=document["subject"],
            token_id=document["token_id"],
            # Absent in what an earlier version wrote.
            provider_session=document.get("provider_session", ""),
        )
    except KeyError as error:
        raise ValueError(f"not a not-before: {error}") from None


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _json(document: object) -> str:
    return _ENCODER.encode(document)


def _of_known_format(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("an unknown format")
    return document


def _grants(grants: Mapping[str, Grant]) -> dict[str, list[str | float]]:
    return {resource: _grant(grant) for resource, grant in grants.items()}


def _grant(grant: Grant) -> list[str | float]:
    values: list[str | float] = [
        b2a_base64(grant.digest, newline=False).decode(),
        grant.issue_time,
        grant.expire_time,
        grant.token_id,
        grant.client_id,
    ]
    if grant.provider_session:
        values.append(grant.provider_session)
    return values


def _of_grants(grants: Mapping[str, Any]) -> Mapping[str, Grant]:
    return MappingProxyType(
        {
            shared(resource): Grant(base64.b64decode(digest), *values)
            for resource, (digest, *values) in grants.items()
        }
    )
