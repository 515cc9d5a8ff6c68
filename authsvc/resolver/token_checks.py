"""The verdict on the token of a request: its own validity, and the not-befores in force."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from authsvc.access.usage import Usages
from authsvc.audit import security
from authsvc.domain.decision import decide_unusable_session
from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.domain.record import PRINCIPAL_SESSION_PREFIX, Limits, Record
from authsvc.domain.revocation import not_before_keys
from authsvc.domain.tokens import BearerToken, RejectedToken, VerifiedToken
from authsvc.resolver.fairness import PassLimiter, result_now
from authsvc.resolver.request import Request
from authsvc.stores import SessionStore
from authsvc.tokens import TokenVerifier

_TOKEN_AT_FAULT = frozenset({GrpcStatus.UNAUTHENTICATED, GrpcStatus.INVALID_ARGUMENT})
"""Statuses of an invalid token; with the others, its validity is not known."""


class TokenChecks:
    """Checks tokens, within what each caller may have checked.

    Args:
        verifier: says whether a token is valid.
        store: keeps the not-befores.
        limits: how long not-befores are kept.
        usages: how many rejected tokens each caller may present.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        store: SessionStore,
        *,
        limits: Limits,
        usages: Usages,
        clock: Callable[[], float],
    ) -> None:
        self._verifier = verifier
        self._store = store
        self._limits = limits
        self._usages = usages
        self._clock = clock
        self._limiter = PassLimiter()

    def seconds_until_check(self, request: Request) -> float:
        """How long a request is to be rejected before any work on it; 0 to ``resolve`` it.

        Where the caller's budget of rejected tokens is spent, or its client's, that is so for each
        token that is neither cached nor the session's current one. Neither waits nor writes.
        """
        token = request.token
        if token is None:
            return 0.0
        wait = self._usages.of(request.caller).seconds_until_check(request.client_address)
        if wait == 0.0:
            return 0.0
        now = self._clock()
        if request.session_id:
            record = self._store.cached_record(request.session_id, request.consistency_token)
            # A session that is not cached may have this token as its current one: the store has
            # to be asked. One that has ended has a reason of its own.
            ended = decide_unusable_session(record, create=False, now=now)
            if record is None or ended is not None or is_current(token, request.resource, record):
                return 0.0
        try:
            cached = self._verifier.cached(token, resource=request.resource, now=now)
        except AuthError:
            return 0.0  # it has a reason of its own
        return wait if cached is None else 0.0

    def rejection_now(self, request: Request) -> AuthError | None:
        """Why ``resolve`` rejects the token of a request, where that is known without waiting.

        A rejection needs no task then, which would take as long as the check. A token that is valid
        is cached. Audits and counts as ``verify`` does.

        Returns:
            None to ``resolve`` the request: its token may be valid, or the session may have a
            reason of its own to reject it, or something has to be waited for.
        """
        token, now = request.token, self._clock()
        if token is None or not self._verifier.needs_keys_alone(token):
            return None
        if not self._rejects_invalid_tokens(request, token, now) or not self._limiter.take():
            return None
        try:
            if self._verifier.cached(token, resource=request.resource, now=now) is None:
                with self._usages.of(request.caller).check(request.client_address):
                    result_now(self._verifier.verify(token, resource=request.resource, now=now))
        except AuthError as error:
            self._audit(request, error)
            return error
        return None

    def _rejects_invalid_tokens(self, request: Request, token: BearerToken, now: float) -> bool:
        """Whether any invalid token of a request is rejected for its own reason: row 7, or 17."""
        session_id = request.session_id
        if not session_id:
            return True
        record = self._store.cached_record(session_id, request.consistency_token)
        return (
            record is not None
            and not session_id.startswith(PRINCIPAL_SESSION_PREFIX)
            and decide_unusable_session(record, create=False, now=now) is None
            and not is_current(token, request.resource, record)
        )

    async def verify(
        self, request: Request, token: BearerToken, now: float, record: Record | None = None
    ) -> VerifiedToken | RejectedToken:
        """The verdict on a token, audited where it is rejected.

        Args:
            request: the request that presented it.
            token: its token.
            now: seconds since the epoch.
            record: the session's record; None where there is none, or it is not known yet.
        """
        try:
            verified = await self._verified(request, token, now, record)
        except AuthError as error:
            self._audit(request, error)
            return RejectedToken(token.digest, error)
        rejection = await self.revocation(request, verified, now)
        return verified if rejection is None else RejectedToken(verified.digest, rejection)

    async def revocation(
        self, request: Request, verified: VerifiedToken, now: float
    ) -> AuthError | None:
        """Why a valid token is rejected by a not-before, audited; None where it is not.

        Args:
            request: the request that presented it.
            verified: its token.
            now: seconds since the epoch.
        """
        rejection = await self._revoked(verified, request.consistency_token, now)
        if rejection is not None and self._usages.of(request.caller).may_audit():
            security.token_rejected(rejection, token=verified, **request.audit_fields)
        return rejection

    def _audit(self, request: Request, error: AuthError) -> None:
        """Audit a token that is at fault itself."""
        may_audit = self._usages.of(request.caller).may_audit
        if error.reason.status in _TOKEN_AT_FAULT and may_audit():
            security.token_rejected(error, **request.audit_fields)

    async def _verified(
        self, request: Request, token: BearerToken, now: float, record: Record | None
    ) -> VerifiedToken:
        resource = request.resource
        cached = self._verifier.cached(token, resource=resource, now=now)
        if cached is not None:
            return cached
        if record is not None and is_current(token, resource, record):
            # Another replica has verified it, or this one before a restart: it counts against no
            # budget and waits for no pass.
            return await self._verifier.verify(token, resource=resource, now=now)
        with self._usages.of(request.caller).check(request.client_address):
            await self._limiter.wait()
            return await self._verifier.verify(token, resource=resource, now=now)

    async def _revoked(
        self, token: VerifiedToken, consistency_token: str, now: float
    ) -> AuthError | None:
        """Why a valid token is rejected all the same; None where it is not."""
        not_befores = self._store.cached_not_befores(consistency_token)
        if not_befores is None:
            not_befores = await self._store.get_not_befores(not_before_keys(token))
        if not_befores.reject(token):
            return AuthError(Reason.TOKEN_REVOKED)
        if 0 < token.issue_time < now - self._limits.not_befores_kept_seconds:
            return AuthError(
                Reason.TOKEN_EXPIRED,
                "older than not-befores are kept",
                setting="revocations.retention_seconds",
            )
        return None


def is_current(token: BearerToken, resource: str, record: Record) -> bool:
    """Whether a token is the session's current one at a resource."""
    grant = record.grants.get(resource)
    return grant is not None and hmac.compare_digest(grant.digest, token.digest)
