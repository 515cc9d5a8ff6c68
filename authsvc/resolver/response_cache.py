"""The response cache: the hot path, rows 8, 11 and 17 for repeated requests.

A cached response is never used unchecked. Each lookup checks that the token is still valid, that
the record is the very one that was decided on, and that no not-before revokes the token. What it
saves is the decision, the credentials and the encoding.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from sys import getsizeof

from authsvc.access.rates import BucketUse
from authsvc.common.lru import LruCache, bytes_for
from authsvc.credentials.owned import OwnedCache
from authsvc.domain.decision import Decision, unchanged_until
from authsvc.domain.errors import AuthError
from authsvc.domain.record import Limits, Record
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Resolution
from authsvc.domain.tokens import PresentedToken, VerifiedToken, token_digest
from authsvc.resolver import log_lines
from authsvc.resolver.request import Request
from authsvc.stores import SessionStore
from authsvc.tokens import TokenVerifier

MAX_CACHED_RESPONSES = 16384
"""How many responses are cached, unless configured otherwise."""

MAX_REJECTED_TOKENS = 4_096
"""Tokens of credentials that an API has rejected, whose responses are not served again."""

MAX_REJECTED_TOKENS_OF_ONE = 64
"""Those of one principal: as many as a broker has cached for it (``MAX_OWNED``)."""

REJECTED_TOKEN_BYTES = 1_000
"""What one of them takes in memory, with the names of its issuer and subject."""

RESPONSE_BYTES = 20_000
"""What cached responses may take in memory, on average, as if nothing were shared with other
caches. Where they take more, fewer are cached."""

_OBJECTS_BYTES = 1_000
"""What a cached response takes beside what it was decided on."""


@dataclass(slots=True)
class CachedResponse:
    """A response, and what it was decided on.

    Attributes:
        record: as the store had it.
        token: as the verifier had it.
        resource: of the request.
        consistency_token: of the request.
        until: when the record is due to be written, or credentials to be renewed.
        resolution: the response.
        uses: what the request takes of the buckets of limits, each time.
        bearers: SHA-256 of each access token among the credentials.
        encoded: the response as the transport encoded it; empty until it has.
    """

    record: Record
    token: VerifiedToken
    resource: str
    consistency_token: str
    until: float
    resolution: Resolution
    uses: tuple[BucketUse, ...] = ()
    bearers: tuple[bytes, ...] = ()
    encoded: bytes = field(default=b"", repr=False)

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate, as if nothing were shared with other caches."""
        principal = self.token.principal.memory_bytes()
        return (
            _OBJECTS_BYTES
            + self.record.memory_bytes()
            + self.token.memory_bytes()
            + sum(use.memory_bytes() for use in self.uses)
            + sum(map(getsizeof, self.bearers))
            # The encoded response has the principal once more.
            + principal
            + 2 * self.resolution.credentials_memory_bytes()
        )


class CachedResponses:
    """The responses used last, by the digest of the request; none of them is checked.

    Args:
        size: how many there may be, of ``RESPONSE_BYTES`` each on average.
    """

    def __init__(self, size: int) -> None:
        self._responses: LruCache[bytes, CachedResponse] = LruCache(
            size, bytes_for(size, RESPONSE_BYTES)
        )
        self.get = self._responses.get
        """The response to the request of that digest; None where there is none."""
        self.evict = self._responses.discard
        """Evict a response that is not valid any more."""

    def put(self, request_digest: bytes, response: CachedResponse) -> None:
        """Cache a response, and evict those used least recently where there are too many."""
        self._responses.put(request_digest, response, response.memory_bytes())

    def __len__(self) -> int:
        return len(self._responses)


class ResponseCache:
    """Serves a response again for as long as ``resolve`` would return the same.

    Args:
        size: how many responses are cached.
        verifier: says whether a token is still valid.
        store: has the current records and not-befores in its cache.
        limits: how long sessions last.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        size: int,
        *,
        verifier: TokenVerifier,
        store: SessionStore,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._responses = CachedResponses(size)
        # By principal: a caller may name any digest, and evicts none of those of others.
        self._rejected: OwnedCache[bool] = OwnedCache(
            MAX_REJECTED_TOKENS,
            bytes_for(MAX_REJECTED_TOKENS, REJECTED_TOKEN_BYTES),
            MAX_REJECTED_TOKENS_OF_ONE,
        )
        self._verifier = verifier
        self._store = store
        self._limits = limits
        self._clock = clock

    def get(self, request_digest: bytes) -> CachedResponse | None:
        """The response, where ``resolve`` would return the same; never waits. The hot path.

        Args:
            request_digest: as ``resolve`` was given it for the same request.

        Returns:
            None where ``resolve`` has to decide.
        """
        response = self._responses.get(request_digest)
        if response is None:
            return None
        now, written, record = self._clock(), response.consistency_token, response.record
        not_befores = self._store.cached_not_befores(written)
        if (
            now < response.until
            and self._store.cached_record(record.id, written) is record
            and not_befores is not None
            and not not_befores.reject(response.token)
            and self._verifier.is_valid(response.token, resource=response.resource, now=now)
            and (not response.bearers or not self._has_rejected(response))
        ):
            if log_lines.log.isEnabledFor(logging.DEBUG):
                log_lines.cached(record.id)
            return response
        self._responses.evict(request_digest)
        return None

    def put(
        self,
        request: Request,
        decision: Decision,
        presented: PresentedToken,
        resolution: Resolution,
        uses: tuple[BucketUse, ...] = (),
    ) -> None:
        """Cache a response, if the next one to the same request will be the same.

        Args:
            request: the request.
            decision: on it.
            presented: the verdict on its token.
            resolution: the response.
            uses: what it has taken of the buckets of limits.
        """
        self._note_rejected(request, resolution, presented)
        record = decision.record
        if (
            record is None
            or not request.request_digest
            or not isinstance(presented, VerifiedToken)
            or not decision.serves_unchanged
            or not _may_come_again(request, resolution)
        ):
            return
        until = unchanged_until(record, self._limits)
        if presented.issue_time > 0:
            until = min(until, presented.issue_time + self._limits.not_befores_kept_seconds)
        for credentials in resolution.issued():
            until = min(until, credentials.renew_time, credentials.expire_time or math.inf)
        self._responses.put(
            request.request_digest,
            CachedResponse(
                record,
                presented,
                request.resource,
                request.consistency_token,
                until,
                resolution,
                uses,
                _bearers(resolution),
            ),
        )

    def _has_rejected(self, response: CachedResponse) -> bool:
        """Whether an API has rejected one of its tokens."""
        owner = _owner(response.token.principal)
        return any(self._rejected.peek((owner, digest)) for digest in response.bearers)

    def _note_rejected(
        self, request: Request, resolution: Resolution, presented: PresentedToken
    ) -> None:
        """Serve no response again with a token that a request names as rejected: the broker has
        another by now. It keeps one that is some seconds old, and so does the cache."""
        if not request.selection or not isinstance(presented, VerifiedToken):
            return
        owner = _owner(presented.principal)
        for wanted in request.selection:
            issued = resolution.named_credentials.get(wanted.name)
            if wanted.rejected and _digest(issued) != wanted.rejected:
                self._rejected.put(
                    (owner, wanted.rejected),
                    True,
                    REJECTED_TOKEN_BYTES,
                    owner=owner,
                    until=presented.principal.expire_time,
                    now=self._clock(),
                )

    def __len__(self) -> int:
        return len(self._responses)


def _owner(principal: Principal) -> tuple[str, str]:
    return principal.issuer, principal.subject


def _digest(credentials: Credentials | AuthError | None) -> bytes:
    """The SHA-256 of an access token; empty for what has none."""
    if not isinstance(credentials, BearerCredentials):
        return b""
    return token_digest(credentials.access_token.reveal())


def _bearers(resolution: Resolution) -> tuple[bytes, ...]:
    digests = map(_digest, resolution.issued())
    return tuple(digest for digest in digests if digest)


def _may_come_again(request: Request, resolution: Resolution) -> bool:
    """Whether brokers would answer an equal request as this one: one that names a rejected token
    asks for another each time, and an outage may be over."""
    renews = any(wanted.rejected for wanted in request.selection or ())
    failed = any(isinstance(it, AuthError) for it in resolution.named_credentials.values())
    return not renews and not failed
