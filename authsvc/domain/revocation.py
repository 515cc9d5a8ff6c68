"""Not-befores: each revokes all tokens that were issued up to a time. Pure.

Every resolve checks them, so they also revoke tokens that were never presented before. A not-before
is kept for ``Limits.not_befores_kept_seconds``. Tokens older than that are rejected for their age,
so that none is accepted again when its not-before is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from authsvc.domain.tokens import VerifiedToken

NotBeforeKey = tuple[str, str, str]
"""Whose tokens a not-before revokes: issuer, subject and token id; empty stands for all."""

EVERYONE: NotBeforeKey = ("", "", "")

END_OF_TIME = 253_402_300_799.0
"""9999-12-31T23:59:59Z: the time of a not-before that revokes a token whenever it was issued."""


@dataclass(frozen=True, slots=True)
class NotBefore:
    """A not-before of a subject, of one token by its ``jti``, or of everyone.

    Attributes:
        time: tokens issued up to then are revoked, in seconds since the epoch.
        set_time: when it was set, in seconds since the epoch.
        issuer: claim ``iss``; empty for everyone.
        subject: claim ``sub``; empty for a token and for everyone.
        token_id: claim ``jti`` (RFC 7519 section 4.1.7); empty for a subject and for everyone.
    """

    time: float
    set_time: float
    issuer: str = ""
    subject: str = ""
    token_id: str = ""

    @property
    def key(self) -> NotBeforeKey:
        """Whose tokens it revokes."""
        return self.issuer, self.subject, self.token_id


def not_before_keys(token: VerifiedToken) -> list[NotBeforeKey]:
    """The keys of the not-befores that may revoke a token."""
    who = token.principal
    keys = [EVERYONE, (who.issuer, who.subject, "")]
    if token.token_id:
        keys.append((who.issuer, "", token.token_id))
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
        return any(
            (its := self._by_key.get(key)) is not None and token.issue_time <= its.time
            for key in not_before_keys(token)[1:]
        )

    def drop(self, set_before: float) -> None:
        """Drop those set before a time."""
        for key in [key for key, it in self._by_key.items() if it.set_time < set_before]:
            del self._by_key[key]
        self._everyone = it.time if (it := self._by_key.get(EVERYONE)) else -math.inf

    def __iter__(self) -> Iterator[NotBefore]:
        return iter(list(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)
