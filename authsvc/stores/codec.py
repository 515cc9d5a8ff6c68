"""Records and cut-offs as text: what stores keep of them, versioned.

A new format is first read by a release that still writes the one before, and written by the next:
replicas of two neighbouring releases then work over one store.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from authsvc.domain.revocation import Cutoff
from authsvc.domain.sessions import Grant, Record

FORMAT = 1
"""Of what is written."""


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
        ValueError: not such a text, or one of a later format.
    """
    document = _of_known_format(text)
    try:
        return Record(
            id=document["id"],
            revision=document["revision"],
            create_time=document["create_time"],
            last_seen_time=document["last_seen_time"],
            expire_time=document["expire_time"],
            issuer=document["issuer"],
            subject=document["subject"],
            revoke_time=document["revoke_time"],
            grants=_of_grants(document["grants"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no record: {error}") from None


def encode_grants(grants: Mapping[str, Grant]) -> str:
    """Grants by resource, as a JSON object."""
    return _json({"format": FORMAT, "grants": _grants(grants)})


def decode_grants(text: str) -> Mapping[str, Grant]:
    """The inverse of ``encode_grants``.

    Raises:
        ValueError: not such a text, or one of a later format.
    """
    return _of_grants(_of_known_format(text)["grants"])


def encode_cutoff(cutoff: Cutoff) -> str:
    """A cut-off, as a JSON object."""
    return _json(
        {
            "format": FORMAT,
            "time": cutoff.time,
            "set_time": cutoff.set_time,
            "issuer": cutoff.issuer,
            "subject": cutoff.subject,
            "token_id": cutoff.token_id,
        }
    )


def decode_cutoff(text: str | bytes) -> Cutoff:
    """The inverse of ``encode_cutoff``.

    Raises:
        ValueError: not such a text, or one of a later format.
    """
    document = _of_known_format(text)
    try:
        return Cutoff(
            time=document["time"],
            set_time=document["set_time"],
            issuer=document["issuer"],
            subject=document["subject"],
            token_id=document["token_id"],
        )
    except KeyError as error:
        raise ValueError(f"no cut-off: {error}") from None


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def _of_known_format(text: str | bytes) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("an unknown format")
    return document


def _grants(grants: Mapping[str, Grant]) -> dict[str, list[str | float]]:
    return {
        resource: [
            base64.b64encode(grant.digest).decode(),
            grant.issue_time,
            grant.expire_time,
            grant.token_id,
            grant.client_id,
        ]
        for resource, grant in grants.items()
    }


def _of_grants(grants: Mapping[str, Any]) -> Mapping[str, Grant]:
    return MappingProxyType(
        {
            resource: Grant(base64.b64decode(digest), issued, expires, token_id, client_id)
            for resource, (digest, issued, expires, token_id, client_id) in grants.items()
        }
    )
