"""The status of issuers: the attributes of their keys, and when these were fetched."""

from __future__ import annotations

from collections.abc import Iterable

from authsvc.domain.errors import AuthError
from authsvc.domain.service_status import IssuerState, IssuerStatus, KeyFacts
from authsvc.tokens.discovery import MAX_MAX_AGE_SECONDS
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.sources import RETRY_SECONDS, KeySource

FETCHED = frozenset({"jwks_url", "discover"})
"""The settings of keys that are fetched periodically. Files are read when they change."""

OVERDUE_SECONDS = MAX_MAX_AGE_SECONDS + 4 * RETRY_SECONDS
"""Keys that are older are overdue, whatever ``max-age`` their issuer gave."""


class WatchedIssuer:
    """One issuer, and when its keys were fetched.

    Args:
        issuer: claim ``iss``.
        key_source: the name of the setting that its keys come from.
        keys: its keys.
    """

    def __init__(self, issuer: str, key_source: str, keys: KeySource) -> None:
        self.name = issuer
        self._key_source = key_source
        self._source = keys
        self._keys: KeySet | None = None
        self._fetch_time = 0.0

    def check_keys(self, now: float) -> None:
        """Note the time of new keys; to be called every few seconds."""
        try:
            keys = self._source.current(now)
        except AuthError:
            self._keys = None
            return
        if keys is not self._keys:  # each fetch makes a new set, also of the same keys
            self._keys, self._fetch_time = keys, now

    @property
    def clock_offset_seconds(self) -> float | None:
        """See ``KeySource.clock_offset_seconds``."""
        return self._source.clock_offset_seconds

    def status(self, now: float) -> IssuerStatus:
        """Its status, now."""
        self.check_keys(now)
        failure = self._source.failure
        if self._keys is None:
            return IssuerStatus(
                self.name, IssuerState.UNAVAILABLE, self._key_source, failure=failure
            )
        skipped = self._keys.skipped
        if not self._keys.keys:
            # The issuer is reachable, and publishes no key that can be used.
            return IssuerStatus(
                self.name,
                IssuerState.UNAVAILABLE,
                self._key_source,
                (),
                self._fetch_time,
                skipped,
                failure,
            )
        is_overdue = self._key_source in FETCHED and now - self._fetch_time > OVERDUE_SECONDS
        return IssuerStatus(
            self.name,
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
        introspected: claim ``iss`` of the issuer whose tokens are introspected; empty for none.
    """

    def __init__(self, issuers: Iterable[WatchedIssuer], introspected: str = "") -> None:
        self._issuers = tuple(issuers)
        status = IssuerStatus(introspected, IssuerState.READY, "introspection")
        # One that has keys, too, has a status already: each issuer is reported once.
        has_keys = any(issuer.name == introspected for issuer in self._issuers)
        self._introspected = (status,) if introspected and not has_keys else ()

    def check_keys(self, now: float) -> None:
        """See ``WatchedIssuer.check_keys``."""
        for issuer in self._issuers:
            issuer.check_keys(now)

    def status(self, now: float) -> tuple[IssuerStatus, ...]:
        """The status of each, now."""
        return (*(issuer.status(now) for issuer in self._issuers), *self._introspected)

    def clock_offsets(self) -> dict[str, float]:
        """The clock of each issuer minus ours, in seconds, where it is known."""
        offsets = ((it.name, it.clock_offset_seconds) for it in self._issuers)
        return {name: offset for name, offset in offsets if offset is not None}


def _facts(keys: Iterable[VerificationKey], *, previous: bool = False) -> tuple[KeyFacts, ...]:
    return tuple(KeyFacts(key.kid or "", key.algorithm, previous) for key in keys)
