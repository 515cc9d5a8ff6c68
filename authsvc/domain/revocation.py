"""Not-befores: each revokes all tokens that were issued up to a time. Pure.

Every resolve checks them, so they also revoke tokens that were never presented before. A not-before
is kept for ``Limits.not_befores_kept_seconds``. Tokens older than that are rejected for their age,
so that none is accepted again when its not-before is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from authsvc.domain.provider_session import NO_PROVIDER_SESSION
from authsvc.domain.record import Grant, Record
from authsvc.domain.tokens import VerifiedToken

NotBeforeKey = tuple[str, str, str, str]
"""Whose tokens a not-before revokes: issuer, subject, token id and provider session; empty stands
for all."""

EVERYONE: NotBeforeKey = ("", "", "", "")

END_OF_TIME = 253_402_300_799.0
"""9999-12-31T23:59:59Z: the time of a not-before that revokes a token whenever it was issued."""


@dataclass(frozen=True, slots=True)
class NotBefore:
    """A not-before of a subject, of one token by its ``jti``, of a provider session, of a subject's
    tokens that name no provider session, or of everyone.

    Attributes:
        time: tokens issued up to then are revoked, in seconds since the epoch.
        set_time: when it was set, in seconds since the epoch.
        issuer: claim ``iss``; empty for everyone.
        subject: claim ``sub``; empty for a token, a provider session and everyone.
        token_id: claim ``jti`` (RFC 7519 section 4.1.7); set for a token alone.
        provider_session: the ``session_digest`` of a provider session, without a subject;
            ``NO_PROVIDER_SESSION`` with a subject, for its tokens without ``sid``; else empty.
    """

    time: float
    set_time: float
    issuer: str = ""
    subject: str = ""
    token_id: str = ""
    provider_session: str = ""

    @property
    def key(self) -> NotBeforeKey:
        """Whose tokens it revokes."""
        return self.issuer, self.subject, self.token_id, self.provider_session


def not_before_keys(token: VerifiedToken) -> list[NotBeforeKey]:
    """The keys of the not-befores that may revoke a token."""
    who = token.principal
    return _keys(who.issuer, who.subject, token.token_id, token.provider_session)


def grant_keys(record: Record, grant: Grant) -> list[NotBeforeKey]:
    """As ``not_before_keys``, for a token by what its session's record keeps of it."""
    return _keys(record.issuer, record.subject, grant.token_id, grant.provider_session)


def _keys(issuer: str, subject: str, token_id: str, provider_session: str) -> list[NotBeforeKey]:
    of_session = (
        (issuer, "", "", provider_session)
        if provider_session
        # A token without ``sid`` may be of any session of its subject.
        else (issuer, subject, "", NO_PROVIDER_SESSION)
    )
    keys = [EVERYONE, (issuer, subject, "", ""), of_session]
    if token_id:
        keys.append((issuer, "", token_id, ""))
    return keys


class NotBefores:
    """The not-befores in force: for each key the one with the latest time."""

    def __init__(self) -> None:
        self._by_key: dict[NotBeforeKey, NotBefore] = {}
        self._everyone = -math.inf

    def add(self, not_before: NotBefore) -> None:
        """Put one in force, unless one with a later time is. An equal one is kept for longer."""
        known = self._by_key.get(not_before.key)
        if known is not None and known.time > not_before.time:
            return
        self._by_key[not_before.key] = not_before
        if not_before.key == EVERYONE:
            self._everyone = not_before.time

    def reject(self, token: VerifiedToken) -> bool:
        """Whether the token is revoked. One without ``iat`` is, by any not-before with its key."""
        if token.issue_time <= self._everyone:
            return True
        if not self._by_key:
            return False
        return self._reject(not_before_keys(token), token.issue_time)

    def reject_grant(self, record: Record, grant: Grant) -> bool:
        """As ``reject``, for a token by what its session's record keeps of it."""
        return self._reject(grant_keys(record, grant), grant.issue_time)

    def _reject(self, keys: list[NotBeforeKey], issue_time: float) -> bool:
        # Each request asks, so it is not `any` of a generator.
        for key in keys:
            its = self._by_key.get(key)
            if its is not None and issue_time <= its.time:
                return True
        return False

    def drop(self, set_before: float) -> None:
        """Drop those set before a time."""
        for key in [key for key, it in self._by_key.items() if it.set_time < set_before]:
            del self._by_key[key]
        self._everyone = it.time if (it := self._by_key.get(EVERYONE)) else -math.inf

    def __iter__(self) -> Iterator[NotBefore]:
        return iter(list(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)
