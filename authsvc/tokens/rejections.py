"""The cache of rejected tokens: verdicts that follow from a token's bytes, the configuration and a
given set of keys.

Decision 0026 says which verdicts are cached, and until when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof

from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.compact import CompactJws
from authsvc.tokens.keys import KeySet
from authsvc.tokens.sources import KeySource

REJECTED_TOKENS = 4096
"""Rejected tokens that are cached. A caller may have 100 checked and rejected in a second, so that
one caller's flood takes 40 seconds to evict another's."""

REJECTION_BYTES = 1_000
"""Memory that one takes on average; a detail has some hundred characters at most."""

_ENTRY_BYTES = 400
"""Memory of an entry beside its texts."""

_CACHED = frozenset(
    {
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_TOO_LARGE,
        Reason.TOKEN_ISSUER_UNKNOWN,
        Reason.TOKEN_CLAIM_MISSING,
        Reason.TOKEN_AUDIENCE_MISMATCH,
        Reason.TOKEN_SIGNATURE_INVALID,
    }
)
"""Neither the clock nor a look for newer keys changes these."""


@dataclass(frozen=True, slots=True)
class _Rejection:
    """A verdict, and what it holds for: these keys, if it needed any, from a time to another."""

    reason: Reason
    detail: str
    setting: str
    source: KeySource | None
    keys: KeySet | None
    since: float
    until: float

    def holds(self, now: float) -> bool:
        if not self.since <= now < self.until:
            return False
        try:
            return self.source is None or self.source.current(now) is self.keys
        except AuthError:
            return False


class Rejections:
    """The rejected tokens used last, by digest and resource. For one event loop."""

    def __init__(self) -> None:
        self._rejected: LruCache[tuple[bytes, str], _Rejection] = LruCache(
            REJECTED_TOKENS, bytes_for(REJECTED_TOKENS, REJECTION_BYTES)
        )

    def check(self, key: tuple[bytes, str], now: float) -> None:
        """
        Args:
            key: the token's digest, and the resource that it is presented at.
            now: seconds since the epoch.

        Raises:
            AuthError: a full check would reject the token for this reason.
        """
        rejection = self._rejected.get(key)
        if rejection is None:
            return
        if rejection.holds(now):
            raise AuthError(rejection.reason, rejection.detail, setting=rejection.setting)
        self._rejected.discard(key)

    def put(
        self,
        key: tuple[bytes, str],
        error: AuthError,
        now: float,
        *,
        source: KeySource | None = None,
        keys: KeySet | None = None,
        until: float = float("inf"),
    ) -> None:
        """Cache a verdict, if it is one that may be cached.

        Args:
            key: as in ``check``.
            error: the verdict.
            now: when it was given, in seconds since the epoch.
            source: of the keys that it was given by; None where it needed none.
            keys: what the source had before the check.
            until: when it ends, in seconds since the epoch.
        """
        if error.reason not in _CACHED:
            return
        rejection = _Rejection(error.reason, error.detail, error.setting, source, keys, now, until)
        texts = getsizeof(key[1]) + getsizeof(error.detail) + getsizeof(error.setting)
        self._rejected.put(key, rejection, _ENTRY_BYTES + texts)

    def __len__(self) -> int:
        return len(self._rejected)


def is_final(error: AuthError, jws: CompactJws, keys: KeySet) -> bool:
    """Whether the same keys give the same verdict, without a look for newer ones.

    An invalid signature has newer keys looked for unless a ``kid`` names the key.
    """
    if error.reason is not Reason.TOKEN_SIGNATURE_INVALID:
        return True
    return jws.key_id is not None and all(key.kid is not None for key in keys.keys)


def end_of(claims: Mapping[str, object], leeway_seconds: float) -> float:
    """When a token with these claims has expired, which is the reason from then on."""
    expire_time = claims.get("exp")
    if isinstance(expire_time, int | float):
        return expire_time + leeway_seconds
    return float("inf")
