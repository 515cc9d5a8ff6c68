"""Provider sessions: the sign-ins of users at an identity provider, by the claim ``sid``. Pure.

A provider names a session in its tokens and, when the session ends, in its sign-out signals
(OpenID Connect Back-Channel Logout 1.0 section 2.1). Only a digest of the name is kept.
"""

from __future__ import annotations

import json

from authsvc.domain.digests import text_digest

NO_PROVIDER_SESSION = "-"
"""In the place of a digest: the tokens that name no provider session."""

SHOWN_DIGEST_CHARACTERS = 8
"""How much of a digest audit and output show: enough to match two, and not enough to test guesses
of a ``sid``."""


def session_digest(issuer: str, sid: str) -> str:
    """The digest of a provider session: 43 characters of base64url.

    Args:
        issuer: claim ``iss``.
        sid: claim ``sid`` of the issuer's tokens.
    """
    return text_digest(json.dumps([issuer, sid]))


def shown_digest(digest: str) -> str:
    """A digest as audit and output show it."""
    return digest[:SHOWN_DIGEST_CHARACTERS]
