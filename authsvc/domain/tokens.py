"""Tokens: as presented, and as verified or rejected. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from sys import getsizeof

from authsvc.domain.errors import AuthError
from authsvc.domain.record import Grant
from authsvc.domain.resolution import Principal

_TOKEN_BYTES = 350
"""Bytes that a verified token takes in memory beside its texts and its principal."""


class BearerToken:
    """The bare token of one request. No repr shows it; its digest is computed once, on demand."""

    __slots__ = ("_digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of its bytes."""
        if self._digest is None:
            self._digest = token_digest(self.text)
        return self._digest

    def __repr__(self) -> str:
        return "<token>"


def token_digest(text: str) -> bytes:
    """The SHA-256 of a token, 32 bytes: all that is stored of it.

    A verifier accepts one spelling of a token only, so that equal tokens have equal digests.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that passed every check: the verdict VALID.

    Attributes:
        digest: SHA-256 of its canonical bytes.
        principal: the identity that it proves.
        issue_time: claim ``iat``; 0 where the issuer is configured to do without.
        token_id: claim ``jti``; empty when absent.
        provider_session: the ``session_digest`` of claim ``sid``; empty when absent.
    """

    digest: bytes = field(repr=False)
    principal: Principal
    issue_time: float
    token_id: str = ""
    provider_session: str = ""

    def memory_bytes(self) -> int:
        """Bytes that it takes in memory: an estimate for caches."""
        texts = getsizeof(self.token_id) + getsizeof(self.provider_session)
        return _TOKEN_BYTES + texts + self.principal.memory_bytes()

    def grant(self) -> Grant:
        """What a record keeps of it."""
        who = self.principal
        return Grant(
            self.digest,
            self.issue_time,
            who.expire_time,
            self.token_id,
            who.client_id,
            self.provider_session,
        )


@dataclass(frozen=True, slots=True)
class RejectedToken:
    """A token that did not pass: the verdict INVALID, or UNAVAILABLE where that is the reason.

    Attributes:
        digest: SHA-256 of its bytes.
        error: why.
    """

    digest: bytes = field(repr=False)
    error: AuthError


PresentedToken = VerifiedToken | RejectedToken | None
"""The verdict on the token of a request; None when it presented none."""
