"""The session record: what a store keeps of a session. Pure, no I/O, no clock.

The record decides *whether* a request is served; the token of the request says *who* it is. A
record holds no claims, so no response can carry an identity that the request did not prove.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from types import MappingProxyType

from authsvc.domain.digests import text_digest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import SESSION_ID_MAX_LENGTH, Principal, Session, SessionState

PRINCIPAL_SESSION_PREFIX = "~"
"""Begins the id of a principal session (row 17). No client can name such an id, so no client can
create or occupy the record of another."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long sessions last, and how long revocations are kept. Times in seconds.

    The defaults are long on purpose: common MCP clients raise on 404 instead of initialising
    again, and a session id without a token gives no access. A token that is older than
    ``not_befores_kept_seconds`` is rejected: a not-before that revoked it may have been dropped.
    """

    unauthenticated_idle_seconds: float = 3600.0
    authenticated_idle_seconds: float = 86400.0
    absolute_seconds: float = 30 * 86400.0
    tombstone_seconds: float = 86400.0
    not_befores_kept_seconds: float = 366 * 86400.0


_GRANT_BYTES = 350
"""Bytes that a grant takes in memory beside its texts."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The current token of a session at one resource, without its text or claims.

    Attributes:
        digest: SHA-256 of the token, 32 bytes.
        issue_time: claim ``iat``.
        expire_time: claim ``exp``.
        token_id: claim ``jti``; empty when absent.
        client_id: claim ``client_id`` or ``azp``; empty when absent.
        provider_session: the ``session_digest`` of claim ``sid``; empty when absent.
        token_revoked: whether a not-before revokes the token. Set in what operators are shown
            alone: no store keeps it, and no decision reads it.
    """

    digest: bytes = field(repr=False)
    issue_time: float
    expire_time: float
    token_id: str = ""
    client_id: str = ""
    provider_session: str = ""
    token_revoked: bool = field(default=False, kw_only=True)

    def memory_bytes(self) -> int:
        """Bytes that it takes in memory: an estimate for caches."""
        texts = (self.token_id, self.client_id, self.provider_session)
        return _GRANT_BYTES + sum(map(getsizeof, texts))


_RECORD_BYTES = 600
"""Bytes that a record takes in memory beside its texts."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored session. Unauthenticated while ``subject`` is empty.

    Attributes:
        id: the session id, or that of a principal session.
        revision: 1 when created, one more with each change.
        create_time: when it was created; the absolute limit counts from here.
        last_seen_time: when it was last used, to within ``TOUCH_FRACTION`` of the idle limit.
        expire_time: after it the record counts as removed; for a revoked one, the tombstone's end.
        issuer: claim ``iss`` that it is bound to.
        subject: claim ``sub`` that it is bound to.
        grants: the current token by resource.
        revoke_time: when it was revoked; None when it never was. A principal session remains
            usable for tokens issued later.
    """

    id: str
    revision: int
    create_time: float
    last_seen_time: float
    expire_time: float
    issuer: str = ""
    subject: str = ""
    grants: Mapping[str, Grant] = field(default_factory=lambda: MappingProxyType({}))
    revoke_time: float | None = None

    @property
    def authenticated(self) -> bool:
        """Whether the record is bound to a subject."""
        return bool(self.subject)

    def memory_bytes(self) -> int:
        """Bytes that it takes in memory: an estimate for caches."""
        texts = (self.id, self.issuer, self.subject)
        grants = (
            getsizeof(resource) + grant.memory_bytes() for resource, grant in self.grants.items()
        )
        return _RECORD_BYTES + sum(map(getsizeof, texts)) + sum(grants)

    def seen_by(self, principal: Principal | None) -> Session:
        """The session as the caller of this request may see it (row 13)."""
        state = SessionState.AUTHENTICATED if principal else SessionState.UNAUTHENTICATED
        return Session(self.id, state, self.revision, self.create_time, self.expire_time)


def check_session_id(session_id: str) -> None:
    """Check that a client may name a session by this id.

    Raises:
        AuthError: SESSION_ID_INVALID unless 1 to 128 characters of visible ASCII (MCP
            "Session Management") that do not begin like a principal session's.
    """
    if (
        not 0 < len(session_id) <= SESSION_ID_MAX_LENGTH
        or session_id.startswith(PRINCIPAL_SESSION_PREFIX)
        # Visible ASCII is what is printable in it, but for the space.
        or not (session_id.isascii() and session_id.isprintable())
        or " " in session_id
    ):
        raise AuthError(Reason.SESSION_ID_INVALID)


def principal_session_id(principal: Principal, resource: str) -> str:
    """The id of the principal session of (issuer, subject, client, resource): row 17."""
    key = json.dumps([principal.issuer, principal.subject, principal.client_id, resource])
    return PRINCIPAL_SESSION_PREFIX + text_digest(key)
