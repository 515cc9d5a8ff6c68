"""What is revoked: a session, the tokens of a subject, one token, or everyone's tokens. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class SessionTarget:
    """One session, for every resource."""

    session_id: str


@dataclass(frozen=True, slots=True)
class SubjectTarget:
    """The tokens of a subject that were issued up to a time.

    Attributes:
        issuer: claim ``iss``.
        subject: claim ``sub``.
        before_time: the time, in seconds since the epoch; None for the time of the revocation.
    """

    issuer: str
    subject: str
    before_time: float | None = None


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """One token, whenever it was issued.

    Attributes:
        issuer: claim ``iss``.
        token_id: claim ``jti`` (RFC 7519 section 4.1.7).
    """

    issuer: str
    token_id: str


@dataclass(frozen=True, slots=True)
class EveryoneTarget:
    """The tokens of everyone that were issued up to a time.

    Attributes:
        before_time: the time, in seconds since the epoch; None for the time of the revocation.
    """

    before_time: float | None = None


RevocationTarget: TypeAlias = SessionTarget | SubjectTarget | TokenTarget | EveryoneTarget
