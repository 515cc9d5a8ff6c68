"""What is revoked: a session, the tokens of a subject, one token, or everyone's tokens. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class ProviderSessionTarget:
    """The tokens of one session at the identity provider that were issued until now.

    Where the subject is known, its tokens that name no provider session are revoked, too: they may
    be of this one. Tokens of the subject's other provider sessions stay valid.

    Attributes:
        issuer: claim ``iss``.
        sid: claim ``sid``. No repr shows it: it may identify a session to the provider.
        subject: claim ``sub``; empty where it is not known.
    """

    issuer: str
    sid: str = field(repr=False)
    subject: str = ""


RevocationTarget: TypeAlias = (
    SessionTarget | SubjectTarget | TokenTarget | ProviderSessionTarget | EveryoneTarget
)
