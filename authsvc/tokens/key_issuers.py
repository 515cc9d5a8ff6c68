"""Keys that name the issuer that they are for, in a set that several issuers share.

Entra's sets do: docs/decisions/0022-entra-tenants.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TEMPLATE = re.compile(r"\{tenantid\}", re.IGNORECASE)
_URL = re.compile(r"https?://", re.IGNORECASE)
_OF_HOST = 3
"""Segments of a URL up to its host: ``https:``, an empty one, and the host."""


def other_issuer(jwk: Mapping[str, object], issuer: str) -> str | None:
    """The issuer that a key is for, if that is another one; None if the key may be used.

    A key's ``issuer`` is a URL, in which a segment ``{tenantid}`` of the path stands for any one.
    Any other value is a member that is not understood, and ignored (RFC 7517 section 4).
    """
    named = jwk.get("issuer")
    if not isinstance(named, str) or not _URL.match(named):
        return None
    # Segment by segment: a regular expression of an issuer's text may take forever.
    wanted, found = named.split("/"), issuer.split("/")
    is_same = wanted[:_OF_HOST] == found[:_OF_HOST] and len(wanted) == len(found)
    return None if is_same and all(map(_stands_for, wanted, found)) else named


def _stands_for(wanted: str, found: str) -> bool:
    if _TEMPLATE.fullmatch(wanted):
        return found != "" and "?" not in found and "#" not in found
    return wanted == found
