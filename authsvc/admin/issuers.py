"""What operators are told of issuers: their keys' names, and since when these are the keys."""

from __future__ import annotations

from collections.abc import Iterable

from authsvc.domain.errors import AuthError
from authsvc.domain.service_status import IssuerState, IssuerStatus, KeyFacts
from authsvc.tokens.discovery import MAX_MAX_AGE_SECONDS
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.sources import RETRY_SECONDS, KeySource

FETCHED = frozenset({"jwks_url", "discover"})
"""The settings of keys that are fetched, every so often; files are read when they change."""

OVERDUE_SECONDS = MAX_MAX_AGE_SECONDS + 4 * RETRY_SECONDS
"""Keys that are older should have been fetched anew, whatever their issuer said of their age."""


class WatchedIssuer:
    """One issuer, and when its keys came.

    Args:
        issuer: claim ``iss``.
        key_source: the setting that its keys come from.
        keys: where they come from.
    """

    def __init__(self, issuer: str, key_source: str, keys: KeySource) -> None:
        self._issuer = issuer
        self._key_source = key_source
        self._source = keys
        self._keys: KeySet | None = None
        self._fetch_time = 0.0

    def look(self, now: float) -> None:
        """Notice keys that have come since the last look; to be done every few seconds."""
        try:
            keys = self._source.current(now)
        except AuthError:
            self._keys = None
            return
        if keys is not self._keys:  # each fetch makes a set of its own, of the same keys too
            self._keys, self._fetch_time = keys, now

    def status(self, now: float) -> IssuerStatus:
        """How it is, now."""
        self.look(now)
        failure = self._source.failure
        if self._keys is None:
            return IssuerStatus(
                self._issuer, IssuerState.UNAVAILABLE, self._key_source, failure=failure
            )
        skipped = sum(entry.is_invalid for entry in self._keys.skipped)
        if not self._keys.keys:
            # Its issuer was heard, and has published none that could be used.
            return IssuerStatus(
                self._issuer,
                IssuerState.UNAVAILABLE,
                self._key_source,
                (),
                self._fetch_time,
                skipped,
                failure,
            )
        is_overdue = self._key_source in FETCHED and now - self._fetch_time > OVERDUE_SECONDS
        return IssuerStatus(
            self._issuer,
            IssuerState.STALE if is_overdue else IssuerState.READY,
            self._key_source,
            (*_facts(self._keys.keys), *_facts(self._keys.previous, previous=True)),
            self._fetch_time,
            skipped,
            failure,
        )


class IssuerWatch:
    """All issuers whose tokens are accepted.

    Args:
        issuers: those with keys, in the order of the configuration.
        introspected: claim ``iss`` of the issuer that is asked about each token; empty for none.
    """

    def __init__(self, issuers: Iterable[WatchedIssuer], introspected: str = "") -> None:
        self._issuers = tuple(issuers)
        asked = IssuerStatus(introspected, IssuerState.READY, "introspection")
        self._asked = (asked,) if introspected else ()

    def look(self, now: float) -> None:
        """See ``WatchedIssuer.look``."""
        for issuer in self._issuers:
            issuer.look(now)

    def status(self, now: float) -> tuple[IssuerStatus, ...]:
        """How each is, now."""
        return (*(issuer.status(now) for issuer in self._issuers), *self._asked)


def _facts(keys: Iterable[VerificationKey], *, previous: bool = False) -> tuple[KeyFacts, ...]:
    return tuple(KeyFacts(key.kid or "", key.algorithm, previous) for key in keys)
