"""Carries out the decision table: verifier, store and broker around one pure function.

Knows no transport and no store by name. Raises ``AuthError`` alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from authsvc.access.callers import LOCAL_CALLER
from authsvc.access.rates import CallRates
from authsvc.access.usage import Usages
from authsvc.audit.sessions import SessionAudit
from authsvc.audit.unanswered import unanswered
from authsvc.credentials import CredentialBroker
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest, check_selection
from authsvc.domain.decision import (
    Decision,
    decide,
    decide_principal_session,
    decide_unusable_session,
    revoke,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType
from authsvc.domain.rates import ONE_CALL, CallCounts
from authsvc.domain.record import (
    PRINCIPAL_SESSION_PREFIX,
    Limits,
    Record,
    check_session_id,
    principal_session_id,
)
from authsvc.domain.resolution import Resolution
from authsvc.domain.tokens import BearerToken, PresentedToken, RejectedToken, VerifiedToken
from authsvc.resolver.call_limits import CallLimits
from authsvc.resolver.execution import Execution, LostUpdateError
from authsvc.resolver.request import Request, bearer
from authsvc.resolver.response_cache import MAX_CACHED_RESPONSES, ResponseCache
from authsvc.resolver.token_checks import TokenChecks
from authsvc.stores import SessionStore
from authsvc.tokens import TokenVerifier

SESSION_ID_BYTES = 24
"""Random bytes in a minted session id: 192 bits, 32 characters."""

SLOW_SECONDS = 0.1
"""Seconds after which it is checked once more that a request has not been revoked: an endpoint of
credentials may take longer to answer than a revocation to be effective."""

MAX_ATTEMPTS = 64
"""How often one request may lose the compare-and-set before it fails with CONFLICT."""


class SessionResolver:
    """The ``Resolver`` that owns session records.

    Args:
        verifier: says whether a token is valid.
        store: keeps the records.
        broker: issues downstream credentials; None where none are needed.
        limits: how long sessions last.
        usages: what callers may ask for.
        clock: seconds since the epoch.
        max_cached_responses: how many responses are cached.
        rates: the buckets of limits by subject and client; None for those of requests alone.
        sessions: audits what becomes of sessions; None for revocations alone.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        store: SessionStore,
        broker: CredentialBroker | None,
        *,
        limits: Limits,
        usages: Usages,
        clock: Callable[[], float] = time.time,
        max_cached_responses: int = MAX_CACHED_RESPONSES,
        rates: CallRates | None = None,
        sessions: SessionAudit | None = None,
    ) -> None:
        self._store = store
        self._sessions = sessions or SessionAudit(limits, enabled=False, clock=clock)
        self._limits = limits
        self._usages = usages
        self._clock = clock
        self._checks = TokenChecks(verifier, store, limits=limits, usages=usages, clock=clock)
        self._execution = Execution(store, broker, usages, self._sessions)
        self.call_limits = CallLimits(rates or CallRates(), usages)
        """Counts the requests that are answered with a cached response."""
        self._responses = ResponseCache(
            max_cached_responses, verifier=verifier, store=store, limits=limits, clock=clock
        )
        self.cached_response = self._responses.get
        """The cached response to a request, by its digest; see ``ResponseCache.get``."""

    @property
    def cached_responses(self) -> int:
        """How many responses are cached at the moment."""
        return len(self._responses)

    def seconds_until_check(self, request: Request) -> float:
        """See ``TokenChecks.seconds_until_check``."""
        return self._checks.seconds_until_check(request)

    def rejection_now(self, request: Request) -> AuthError | None:
        """See ``TokenChecks.rejection_now``."""
        return self._checks.rejection_now(request)

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        caller: str = LOCAL_CALLER,
        consistency_token: str = "",
        request_digest: bytes = b"",
        client_address: str = "",
        counts: CallCounts = ONE_CALL,
        credentials: Sequence[CredentialRequest] | None = None,
        wanted: CredentialRequest = DEFAULT,
    ) -> Resolution:
        """See ``Resolver.resolve``.

        Args:
            session_id: the session; empty for the principal session.
            token: the bare token; empty for none.
            resource: for which resource.
            create: whether an unknown session is created.
            caller: the name of the MCP server that asks.
            consistency_token: of a write that the response has to include.
            request_digest: the key for ``cached_response``; empty where the response is not to be
                cached. Two requests that differ in anything have two.
            client_address: IP address of the caller's client; empty where it is not known.
            counts: what the request counts as.
            credentials: see ``CountingResolver.resolve``.
            wanted: what ``Resolution.credentials`` are where ``credentials`` is None.
        """
        presented = bearer(token)
        request = Request(
            caller,
            session_id,
            presented,
            resource,
            consistency_token,
            request_digest,
            client_address,
            counts,
            None if credentials is None else check_selection(credentials),
            wanted,
        )
        if session_id:
            check_session_id(session_id)
            return await self._resolve_session(request, create=create)
        if presented is not None:
            return await self._resolve_principal_session(request, presented)
        return Resolution()  # row 16

    async def create(
        self,
        token: str,
        *,
        resource: str,
        caller: str = LOCAL_CALLER,
        client_address: str = "",
        counts: CallCounts = ONE_CALL,
        credentials: Sequence[CredentialRequest] | None = None,
        wanted: CredentialRequest = DEFAULT,
    ) -> Resolution:
        """See ``Resolver.create``; the other arguments as for ``resolve``."""
        session_id = secrets.token_urlsafe(SESSION_ID_BYTES)
        request = Request(
            caller,
            session_id,
            bearer(token),
            resource,
            client_address=client_address,
            counts=counts,
            selection=None if credentials is None else check_selection(credentials),
            wanted=wanted,
        )
        return await self._resolve_session(request, create=True)

    async def revoke(
        self,
        session_id: str,
        *,
        resources: Collection[str] | None = None,
        caller: str = LOCAL_CALLER,
    ) -> str:
        """See ``Resolver.revoke``. Takes the id of a principal session, too.

        Args:
            session_id: the session to end.
            caller: the name of the MCP server that asks.
            resources: what the caller is registered for; None for all. A caller may end only a
                session that was first authenticated at one of them: CALLER_NOT_ALLOWED.

        Returns:
            The consistency token of what was written; empty when there was nothing to end.
        """
        check_session_id(session_id.removeprefix(PRINCIPAL_SESSION_PREFIX))
        for _ in range(MAX_ATTEMPTS):
            record = await self._store.get(session_id)
            if record is not None and resources is not None:
                _check_may_end(record, resources)
            tombstone = record and revoke(record, now=self._clock(), limits=self._limits)
            if tombstone is None:
                if record is not None and record.revoke_time is not None:
                    # This may be the repetition of an attempt whose write is not confirmed.
                    await self._store.confirm(record)
                return ""
            try:
                written = await self._store.put(tombstone, EventType.REVOKED)
            except BaseException as error:
                if (lost := unanswered(error)) is not None:
                    self._sessions.revoked(tombstone, caller=caller, lost=lost)
                raise
            if written is not None:
                self._sessions.revoked(tombstone, caller=caller)
                return written
        raise _conflict()

    async def _resolve_session(self, request: Request, *, create: bool) -> Resolution:
        presented: PresentedToken = None
        cached = self._store.cached_record(request.session_id, request.consistency_token)
        for _ in range(MAX_ATTEMPTS):
            now = self._clock()
            record = cached or await self._store.get(request.session_id)
            # A session that has ended rejects every token, so no signature is verified for it.
            decision = decide_unusable_session(record, create=create, now=now)
            if decision is None:
                if request.token is not None and presented is None:
                    presented = await self._checks.verify(request, request.token, now, record)
                decision = decide(
                    record,
                    presented,
                    session_id=request.session_id,
                    resource=request.resource,
                    now=now,
                    limits=self._limits,
                )
            if cached is not None and not decision.allows_cached_record:
                cached = None  # decide again, on what the store has
                continue
            if decision.creates_without_token:
                self._usages.of(request.caller).before_anonymous_session(request.client_address)
            if create and cached is None and decision.serves_unchanged and record is not None:
                # This may be the repetition of an attempt whose creation is not confirmed.
                await self._store.confirm(record)
            with suppress(LostUpdateError):
                return await self._carry_out(request, decision, presented, now)
            cached = None
        raise _conflict()

    async def _resolve_principal_session(self, request: Request, token: BearerToken) -> Resolution:
        now = self._clock()
        presented = await self._checks.verify(request, token, now)
        if isinstance(presented, RejectedToken):
            raise presented.error
        session_id = principal_session_id(presented.principal, request.resource)
        request = replace(request, session_id=session_id)
        cached = self._store.cached_record(session_id, request.consistency_token)
        for _ in range(MAX_ATTEMPTS):
            record = cached or await self._store.get(session_id)
            decision = decide_principal_session(
                record, presented, resource=request.resource, now=now, limits=self._limits
            )
            if cached is not None and not decision.allows_cached_record:
                cached = None  # decide again, on what the store has
                continue
            with suppress(LostUpdateError):
                return await self._carry_out(request, decision, presented, now)
            cached = None
        raise _conflict()

    async def _carry_out(
        self, request: Request, decision: Decision, presented: PresentedToken, now: float
    ) -> Resolution:
        uses = self.call_limits.take(request, decision.principal)
        began = time.monotonic()
        try:
            resolution = await self._execution.carry_out(request, decision, presented, now)
            if time.monotonic() >= began + SLOW_SECONDS and isinstance(presented, VerifiedToken):
                await self._check_again(request, presented)
        except BaseException as error:
            self.call_limits.put_back_after(error, uses)
            if isinstance(error, AuthError) and error.reason in _OF_CREDENTIALS:
                error.principal = decision.principal
            raise
        self._responses.put(request, decision, presented, resolution, uses)
        return resolution

    async def _check_again(self, request: Request, presented: VerifiedToken) -> None:
        """
        Raises:
            AuthError: the session or the token has been revoked in the meantime.
        """
        now = self._clock()
        record = self._store.cached_record(request.session_id, request.consistency_token)
        record = record or await self._store.get(request.session_id)
        if (ended := decide_unusable_session(record, create=False, now=now)) is not None:
            await self._execution.carry_out(request, ended, presented, now)
        if (rejection := await self._checks.revocation(request, presented, now)) is not None:
            raise rejection


_OF_CREDENTIALS = {Reason.CREDENTIALS_REFUSED, Reason.CREDENTIALS_UNAVAILABLE}
"""Reasons against a request whose token is valid."""


def _check_may_end(record: Record, resources: Collection[str]) -> None:
    """Only a caller at which a session was authenticated first may end it.

    A server that holds any valid token of the subject can join a session whose id it has learned,
    so a later grant gives it no say over the session as a whole. A session without a grant opens
    nothing and ends by itself.

    Raises:
        AuthError: CALLER_NOT_ALLOWED.
    """
    # Grants keep the order that they were made in, in every store.
    if next(iter(record.grants), None) not in resources:
        raise AuthError(
            Reason.CALLER_NOT_ALLOWED, "the session was first authenticated at another resource"
        )


def _conflict() -> AuthError:
    return AuthError(
        Reason.CONFLICT, f"lost the compare-and-set of one record {MAX_ATTEMPTS} times"
    )
