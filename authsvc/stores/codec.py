"""Grants as text: what the stores keep of them, versioned."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType

from authsvc.sessions import Grant

FORMAT = 1


def encode_grants(grants: Mapping[str, Grant]) -> str:
    """Grants by resource, as JSON."""
    return json.dumps(
        {
            "format": FORMAT,
            "grants": {
                resource: [
                    base64.b64encode(grant.digest).decode(),
                    grant.issue_time,
                    grant.expire_time,
                    grant.token_id,
                    grant.client_id,
                ]
                for resource, grant in grants.items()
            },
        },
        separators=(",", ":"),
    )


def decode_grants(text: str) -> Mapping[str, Grant]:
    """The inverse of ``encode_grants``.

    Raises:
        ValueError: not such a text, or one of a later format.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("grants of an unknown format")
    return MappingProxyType(
        {
            resource: Grant(base64.b64decode(digest), issued, expires, token_id, client_id)
            for resource, (digest, issued, expires, token_id, client_id) in document[
                "grants"
            ].items()
        }
    )
