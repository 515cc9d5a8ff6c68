"""Keys that name the issuer that they are for, in a set that several issuers share.

Entra's sets do: docs/decisions/0022-entra-tenants.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TEMPLATE = re.compile(r"\{tenantid\}", re.IGNORECASE)
_URL = re.compile(r"https?://", re.IGNORECASE)


def other_issuer(jwk: Mapping[str, object], issuer: str) -> str | None:
    """The issuer that a key is for, if that is another one; None if the key may be used.

    A key's ``issuer`` is a URL, in which ``{tenantid}`` stands for one segment of a path. Any other
    value is a member that is not understood, and ignored (RFC 7517 section 4).
    """
    named = jwk.get("issuer")
    if not isinstance(named, str) or not _URL.match(named):
        return None
    pattern = "[^/?#]+".join(map(re.escape, _TEMPLATE.split(named)))
    return None if re.fullmatch(pattern, issuer) else named
