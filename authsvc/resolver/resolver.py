"""Carries out the decision table: verifier, store and broker around one pure function.

Knows no transport and no store by name. Raises ``AuthError`` alone.
"""

from __future__ import annotations

import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TypedDict

from authsvc.access import audit
from authsvc.access.callers import LOCAL_CALLER
from authsvc.access.usage import Usages
from authsvc.credentials import CredentialBroker
from authsvc.domain.decision import (
    Change,
    Decision,
    decide_principal_session,
    decide_with_token,
    decide_without_token,
    revoke,
    unchanged_until,
)
from authsvc.domain.errors import AuthError, Reason, Status
from authsvc.domain.events import Event, EventType
from authsvc.domain.record import (
    PRINCIPAL_SESSION_PREFIX,
    Limits,
    Record,
    check_session_id,
    principal_session_id,
)
from authsvc.domain.resolution import Outcome, Resolution, Secret, shown
from authsvc.domain.revocation import not_before_keys
from authsvc.domain.tokens import PresentedToken, RejectedToken, VerifiedToken
from authsvc.resolver.fairness import Turns
from authsvc.resolver.response_cache import Settled, SettledAnswers
from authsvc.stores import SessionStore
from authsvc.tokens import TokenVerifier, token_digest

log = logging.getLogger(__name__)

SESSION_ID_BYTES = 24
"""Random bytes in a minted session id: 192 bits, 32 characters."""

ANSWERS_KEPT = 16384
"""How many answers are kept to be given again, unless configured otherwise."""

MAX_ATTEMPTS = 64
"""How often one request may lose the compare-and-set race before it is told to retry."""


_ITS_OWN_FAULT = frozenset({Status.UNAUTHENTICATED, Status.INVALID_ARGUMENT})
"""Statuses of a token that is to blame itself; others say that it could not be judged."""


class _Named(TypedDict):
    """How an audit event calls who asked for what."""

    caller: str
    session_id: str
    resource: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request."""

    caller: str
    session_id: str
    token: str = field(repr=False)
    resource: str
    seen: str = ""
    """A consistency token."""
    request_digest: bytes = b""

    def named(self) -> _Named:
        return {"caller": self.caller, "session_id": self.session_id, "resource": self.resource}


class SessionResolver:
    """The ``Resolver`` that owns session records.

    Args:
        verifier: says whether a token is good.
        store: keeps the records.
        broker: issues downstream credentials; None where none are needed.
        limits: how long sessions last.
        usages: what callers may ask for.
        clock: seconds since the epoch.
        answers_kept: how many answers are kept to be given again.
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
        answers_kept: int = ANSWERS_KEPT,
    ) -> None:
        self._verifier = verifier
        self._store = store
        self._broker = broker
        self._limits = limits
        self._usages = usages
        self._clock = clock
        self._settled = SettledAnswers(answers_kept)
        self._turns = Turns()

    @property
    def answers_kept(self) -> int:
        """How many answers are kept, at the moment."""
        return len(self._settled)

    def recall(self, request_digest: bytes) -> Settled | None:
        """What ``resolve`` would answer, without waiting, where nothing has changed since it did.

        The hot path.

        Args:
            request_digest: as ``resolve`` was given it, of a request that was the same in all.

        Returns:
            None where ``resolve`` has to be asked, for whatever reason.
        """
        settled = self._settled.get(request_digest)
        if settled is None:
            return None
        now, seen, record = self._clock(), settled.seen, settled.record
        not_befores = self._store.cached_not_befores(seen)
        if (
            now < settled.until
            and self._store.recall(record.id, seen) is record
            and not_befores is not None
            and not not_befores.reject(settled.token)
            and self._verifier.stands(settled.token, resource=settled.resource, now=now)
        ):
            if log.isEnabledFor(logging.DEBUG):
                _log_cached(record.id)
            return settled
        self._settled.forget(request_digest)
        return None

    def seconds_until_check(
        self, session_id: str, token: str, *, resource: str, caller: str, seen: str = ""
    ) -> float:
        """How long a request is to be rejected before any work on it; 0 to ask ``resolve``.

        Where the caller's budget of refused tokens is spent, that is so for each token that is not
        known here: not verified before, and not the session's own. Neither waits nor writes.

        Args:
            session_id: the session; empty for the principal session or a new one.
            token: the bare token, empty for none.
            resource: for which resource.
            caller: the name of who asks.
            seen: a consistency token.
        """
        if not token:
            return 0.0
        wait = self._usages.of(caller).seconds_until_check()
        if wait == 0.0:
            return 0.0
        if session_id:
            record = self._store.recall(session_id, seen)
            # A session that is not in memory may have this token as its own: the store says. One
            # that has ended has a reason of its own.
            ended = decide_without_token(record, create=False, now=self._clock())
            if record is None or ended is not None or _is_current(token, resource, record):
                return 0.0
        try:
            known = self._verifier.recall(token, resource=resource, now=self._clock())
        except AuthError:
            return 0.0  # it has a reason of its own
        return wait if known is None else 0.0

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        caller: str = LOCAL_CALLER,
        seen: str = "",
        request_digest: bytes = b"",
    ) -> Resolution:
        """See ``Resolver.resolve``.

        Args:
            session_id: the session, empty for the principal session.
            token: the bare token, empty for none.
            resource: for which resource.
            create: whether an unknown session is created.
            caller: the name of who asks.
            seen: a consistency token; the answer is as new as what it stands for.
            request_digest: what ``recall`` will know the same request by; empty where nobody will
                ask. Two requests that differ in anything have two.
        """
        asked = _Asked(caller, session_id, token, resource, seen, request_digest)
        if session_id:
            check_session_id(session_id)
            return await self._resolve_session(asked, create=create)
        if token:
            return await self._resolve_principal_session(asked)
        return Resolution()  # row 16

    async def create(self, token: str, *, resource: str, caller: str = LOCAL_CALLER) -> Resolution:
        """See ``Resolver.create``; ``caller`` is the name of who asks."""
        session_id = secrets.token_urlsafe(SESSION_ID_BYTES)
        asked = _Asked(caller, session_id, token, resource)
        return await self._resolve_session(asked, create=True)

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
            caller: the name of who asks.
            resources: what the caller is registered for; None for all. A session that was not
                authenticated at one of them first is not the caller's to end: CALLER_NOT_ALLOWED.

        Returns:
            The consistency token of what was written; empty when there was nothing to end.
        """
        check_session_id(session_id.removeprefix(PRINCIPAL_SESSION_PREFIX))
        for _ in range(MAX_ATTEMPTS):
            record = await self._store.get(session_id)
            if record is not None and resources is not None:
                _check_is_theirs(record, resources)
            tombstone = record and revoke(record, now=self._clock(), limits=self._limits)
            if tombstone is None:
                if record is not None and record.revoke_time is not None:
                    # Perhaps by an attempt that failed, of which we are the repetition.
                    await self._store.confirm(record)
                return ""
            written = await self._store.put(tombstone, EventType.REVOKED)
            if written is not None:
                audit.revoked(tombstone, caller=caller)
                return written
        raise _contention()

    async def _resolve_session(self, asked: _Asked, *, create: bool) -> Resolution:
        presented: PresentedToken = None
        remembered = self._store.recall(asked.session_id, asked.seen)
        for _ in range(MAX_ATTEMPTS):
            now = self._clock()
            record = remembered or await self._store.get(asked.session_id)
            # A session that is gone is gone whatever the token: no signature is checked for it.
            decision = decide_without_token(record, create=create, now=now)
            if decision is None:
                if asked.token and presented is None:
                    presented = await self._verify(asked, now, record)
                decision = decide_with_token(
                    record,
                    presented,
                    session_id=asked.session_id,
                    resource=asked.resource,
                    now=now,
                    limits=self._limits,
                )
            if remembered is not None and not decision.allows_cached_record:
                remembered = None  # the store has the last word
                continue
            if decision.creates_without_token:
                self._usages.of(asked.caller).before_anonymous_session()
            if create and remembered is None and decision.serves_unchanged and record is not None:
                # Perhaps created by an attempt that failed, of which this is the repetition.
                await self._store.confirm(record)
            written = await self._written(decision, asked.session_id)
            if written is not None:
                resolution = await self._answer(decision, asked, presented, now, written)
                self._settle(asked, decision, presented, resolution)
                return resolution
        raise _contention()

    async def _resolve_principal_session(self, asked: _Asked) -> Resolution:
        now = self._clock()
        presented = await self._verify(asked, now)
        if isinstance(presented, RejectedToken):
            raise presented.error
        session_id = principal_session_id(presented.principal, asked.resource)
        remembered = self._store.recall(session_id, asked.seen)
        for _ in range(MAX_ATTEMPTS):
            record = remembered or await self._store.get(session_id)
            decision = decide_principal_session(
                record, presented, resource=asked.resource, now=now, limits=self._limits
            )
            if remembered is not None and not decision.serves_unchanged:
                remembered = None
                continue
            written = await self._written(decision, session_id)
            if written is not None:
                found = replace(asked, session_id=session_id)
                resolution = await self._answer(decision, found, presented, now, written)
                self._settle(asked, decision, presented, resolution)
                return resolution
        raise _contention()

    async def _verify(
        self, asked: _Asked, now: float, record: Record | None = None
    ) -> VerifiedToken | RejectedToken:
        """Judge the token: by itself, and by the not-befores in force."""
        presented = await self._verify_alone(asked, now, record)
        if isinstance(presented, RejectedToken):
            return presented
        not_befores = self._store.cached_not_befores(asked.seen)
        if not_befores is None:
            not_befores = await self._store.get_not_befores(not_before_keys(presented))
        if not_befores.reject(presented):
            error = AuthError(Reason.TOKEN_REVOKED)
        elif 0 < presented.issue_time < now - self._limits.not_befores_kept_seconds:
            error = AuthError(Reason.TOKEN_EXPIRED, "older than not-befores are kept")
        else:
            return presented
        if self._usages.of(asked.caller).may_record():
            audit.token_rejected(error, token=presented, **asked.named())
        return RejectedToken(presented.digest, error)

    async def _verify_alone(
        self, asked: _Asked, now: float, record: Record | None = None
    ) -> VerifiedToken | RejectedToken:
        usage = self._usages.of(asked.caller)
        token, resource = asked.token, asked.resource
        try:
            known = self._verifier.recall(token, resource=resource, now=now)
            if known is not None:
                return known
            if record is not None and _is_current(token, resource, record):
                # It was good, on another replica or before a restart: the hot path, not a flood.
                return await self._verifier.verify(token, resource=resource, now=now)
            with usage.check():
                await self._turns.take()
                return await self._verifier.verify(token, resource=resource, now=now)
        except AuthError as error:
            if error.reason.status in _ITS_OWN_FAULT and usage.may_record():
                audit.token_rejected(error, **asked.named())
            return RejectedToken(token_digest(token), error)

    async def _written(self, decision: Decision, session_id: str) -> str | None:
        """Carry out what the decision writes.

        Returns:
            The consistency token of the write, empty without one; None when another came first.
        """
        record, change = decision.record, decision.change
        if record is None or change is Change.NONE:
            return ""
        if change is Change.REMOVE:
            await self._store.remove(record)
        elif change is Change.TOUCH:
            await self._store.touch(record)
        elif decision.outcome is not Outcome.REAUTHENTICATED:
            return await self._store.put(record, EventType.CREATED)
        else:
            log.info("Session %s: New JWT token detected, re-authenticating", shown(session_id))
            written = await self._store.put(record, EventType.REAUTHENTICATED)
            if written is not None:
                log.info("Session %s updated with new JWT", shown(session_id))
            return written
        return ""

    async def _answer(
        self,
        decision: Decision,
        asked: _Asked,
        presented: PresentedToken,
        now: float,
        written: str,
    ) -> Resolution:
        if decision.error is not None:
            if isinstance(presented, VerifiedToken) and self._usages.of(asked.caller).may_record():
                audit.token_rejected(decision.error, token=presented, **asked.named())
                if decision.is_subject_mismatch:
                    await self._store.append(
                        Event(EventType.SUBJECT_MISMATCH, now, decision.record)
                    )
            raise decision.error
        if decision.record is None:
            raise AssertionError("a decision that serves has a record")
        _log_reuse(decision, asked.session_id)
        principal = decision.principal
        credentials = None
        if principal is not None and self._broker is not None:
            credentials = await self._broker.issue(
                principal, token=Secret(asked.token), resource=asked.resource, now=now
            )
        return Resolution(
            decision.record.seen_by(principal), decision.outcome, principal, credentials, written
        )

    def _settle(
        self,
        asked: _Asked,
        decision: Decision,
        presented: PresentedToken,
        resolution: Resolution,
    ) -> None:
        """Keep an answer that will be the same next time."""
        record = decision.record
        if (
            record is None
            or not asked.request_digest
            or not isinstance(presented, VerifiedToken)
            or not decision.serves_unchanged
        ):
            return
        until = unchanged_until(record, self._limits)
        if presented.issue_time > 0:
            until = min(until, presented.issue_time + self._limits.not_befores_kept_seconds)
        credentials = resolution.credentials
        if credentials is not None:
            until = min(until, credentials.renew_time, credentials.expire_time or math.inf)
        self._settled.keep(
            asked.request_digest,
            Settled(record, presented, asked.resource, asked.seen, until, resolution),
        )


def _is_current(token: str, resource: str, record: Record) -> bool:
    grant = record.grants.get(resource)
    return grant is not None and hmac.compare_digest(grant.digest, token_digest(token))


def _check_is_theirs(record: Record, resources: Collection[str]) -> None:
    """Only where a session was authenticated first may it be ended.

    A server that holds any valid token of the subject can join a session whose id it has learned,
    so a later grant gives it no say over the session as a whole. A session without a grant opens
    nothing and ends by itself.
    """
    # Grants keep the order that they were made in, in every store.
    if next(iter(record.grants), None) not in resources:
        raise AuthError(
            Reason.CALLER_NOT_ALLOWED, "the session was first authenticated at another resource"
        )


def _log_reuse(decision: Decision, session_id: str) -> None:
    if decision.withholds_identity:
        log.info(
            "Session %s: a request without a token is answered as UNAUTHENTICATED",
            shown(session_id),
        )
    elif decision.principal is not None and decision.outcome is Outcome.REUSED:
        _log_cached(session_id)


def _log_cached(session_id: str) -> None:
    log.debug("Using cached JWT auth for session %s", shown(session_id))


def _contention() -> AuthError:
    return AuthError(Reason.CONFLICT, f"lost the race for one record {MAX_ATTEMPTS} times")
