"""The limits by subject, by client and for everyone, as requests meet them: taken, and audited."""

from __future__ import annotations

from authsvc.access.rates import BucketUse, CallRates, Reached
from authsvc.access.usage import Usages
from authsvc.audit import security
from authsvc.common.lru import ENTRY_BYTES, LruCache, bytes_for
from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.domain.rates import CallCounts
from authsvc.domain.resolution import Principal
from authsvc.resolver.request import Request
from authsvc.resolver.response_cache import CachedResponse

REPORT_INTERVAL_SECONDS = 1.0
"""A limit that is reached again and again is audited at most so often, for all that reach it."""

MAX_REPORTED = 1_024
"""Limits whose last event is known."""

_REPEATED = frozenset({GrpcStatus.UNAVAILABLE, GrpcStatus.ABORTED})
"""Statuses of requests that a client repeats by itself."""


class CallLimits:
    """Takes from the buckets of limits what valid requests count as.

    Args:
        rates: the buckets.
        usages: how many audit events each caller may cause.
    """

    def __init__(self, rates: CallRates, usages: Usages) -> None:
        self._rates = rates
        self._usages = usages
        self._reported: LruCache[tuple[str, str], float] = LruCache(
            MAX_REPORTED, bytes_for(MAX_REPORTED, ENTRY_BYTES)
        )

    def count(self, response: CachedResponse, caller: str) -> None:
        """Count a request that is answered with its cached response. The hot path.

        Args:
            response: to the very same request.
            caller: the name of the MCP server that asks.

        Raises:
            AuthError: RATE_LIMITED.
        """
        if response.uses and (reached := self._rates.take(response.uses)) is not None:
            raise self._rejection(reached, response.token.principal, caller, response.resource)

    def count_as(
        self, response: CachedResponse, caller: str, counts: CallCounts, client_address: str
    ) -> None:
        """As ``count``, for a response to a request that may have counted otherwise.

        Args:
            response: to a request that differs in nothing else.
            caller: the name of the MCP server that asks.
            counts: what the request counts as.
            client_address: IP address of the caller's client; empty where it is not known.

        Raises:
            AuthError: RATE_LIMITED.
        """
        principal = response.token.principal
        uses = self._rates.uses(principal, response.resource, counts)
        if uses and (reached := self._rates.take(uses)) is not None:
            raise self._rejection(reached, principal, caller, response.resource, client_address)

    def try_to_count_as(self, response: CachedResponse, counts: CallCounts) -> bool:
        """Count a request that is within its limits; arguments as of ``count_as``.

        Returns:
            Whether it is. One that is beyond a limit is neither counted nor audited: it is to be
            resolved, which rejects it.
        """
        uses = self._rates.uses(response.token.principal, response.resource, counts)
        return not uses or self._rates.take_uncounted(uses) is None

    def take(self, request: Request, principal: Principal | None) -> tuple[BucketUse, ...]:
        """Count a request that is about to be served.

        Args:
            request: the request.
            principal: whose it is; None where it has no token, and counts as nothing.

        Returns:
            What it has taken.

        Raises:
            AuthError: RATE_LIMITED.
        """
        if principal is None:
            return ()
        uses = self._rates.uses(principal, request.resource, request.counts)
        if uses and (reached := self._rates.take(uses)) is not None:
            raise self._rejection(
                reached, principal, request.caller, request.resource, request.client_address
            )
        return uses

    def put_back_after(self, error: BaseException, uses: tuple[BucketUse, ...]) -> None:
        """Return what a request has taken that has ended without an answer.

        Its client repeats it, by itself after an outage or once it has been cancelled: it counts
        once.
        """
        if not isinstance(error, AuthError) or error.reason.status in _REPEATED:
            self._rates.put_back(uses)

    def _rejection(
        self,
        reached: Reached,
        principal: Principal,
        caller: str,
        resource: str,
        client_address: str = "",
    ) -> AuthError:
        """The error of a request beyond a limit, audited at a bounded rate."""
        limit, setting = reached.use.limit.name, reached.use.setting
        if self._is_due(limit, "" if setting else resource, caller):
            security.record(
                security.SecurityEvent(
                    security.SecurityEventType.LIMIT_REACHED,
                    reason=Reason.RATE_LIMITED.name,
                    caller=caller,
                    resource=resource,
                    issuer=principal.issuer,
                    subject=principal.subject,
                    client_id=principal.client_id,
                    detail=f"limit {limit}",
                    setting=setting,
                    client_address=client_address,
                )
            )
        return AuthError(
            Reason.RATE_LIMITED,
            f"limit {limit}",
            setting=setting,
            retry_after_seconds=reached.wait_seconds,
            limit=limit,
            principal=principal,
        )

    def _is_due(self, limit: str, resource: str, caller: str) -> bool:
        """Whether the limit of a resource is audited now; it has been then."""
        key, now = (resource, limit), self._rates.clock()
        last = self._reported.get(key)
        if last is not None and 0.0 <= now - last < REPORT_INTERVAL_SECONDS:
            return False
        if not self._usages.of(caller).may_audit():
            return False
        self._reported.put(key, now, len(resource))
        return True
