"""Revocation: of tokens by a not-before time, or of a session."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never

from authsvc.admin.checks import check_name, invalid
from authsvc.audit import security
from authsvc.audit.unanswered import unanswered
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest
from authsvc.domain.record import PRINCIPAL_SESSION_PREFIX, Grant, Record
from authsvc.domain.revocation import END_OF_TIME, NotBefore
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.domain.service_status import IssuerStatus
from authsvc.stores import SessionStore

MAX_COUNTED_SESSIONS = 100_000
"""A subject with more sessions is revoked without counting them: the number of its sessions must
not delay its revocation."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """The result of a revocation.

    Attributes:
        session_count: how many live sessions held a token that was revoked; None where that is
            not known.
        consistency_token: of the write.
        not_before: what was stored; None where a session was ended. Of a provider session, the
            one by its digest.
    """

    session_count: int | None
    consistency_token: str
    not_before: NotBefore | None = None


class EndSession(Protocol):
    """Ends a session for every resource; ``SessionResolver.revoke`` is one."""

    async def __call__(self, session_id: str, *, caller: str) -> str:
        """
        Returns:
            The consistency token of the write; empty where there was nothing to end.

        Raises:
            AuthError: SESSION_ID_INVALID, STORE_UNAVAILABLE.
        """
        ...


class Revocations:
    """Revokes sessions and tokens.

    Args:
        store: keeps sessions and not-before times.
        end_session: ends one session.
        issuers: the status of the issuers at a time.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        end_session: EndSession,
        issuers: Callable[[float], tuple[IssuerStatus, ...]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._end_session = end_session
        self._issuers = issuers
        self._clock = clock

    async def revoke(
        self,
        target: RevocationTarget,
        *,
        caller: str,
        allow_unknown_issuer: bool = False,
        not_earlier_than: float = 0.0,
        most_sessions: int = MAX_COUNTED_SESSIONS,
    ) -> Revocation:
        """Revoke a target.

        Args:
            target: what is revoked. Without a ``before_time``, tokens are revoked up to now, or up
                to the ``iat`` of the subject's newest known token where the issuer's clock is
                ahead.
            caller: the operator's name.
            allow_unknown_issuer: whether the issuer may be one that is not configured.
            not_earlier_than: without a ``before_time``, tokens are revoked up to this time at
                least, in seconds since the epoch: that of the event, by the issuer's own clock.
            most_sessions: of a subject with more sessions, no more than these are read, and none
                counted.

        Raises:
            AuthError: ARGUMENT_INVALID, SESSION_ID_INVALID, STORE_UNAVAILABLE.
        """
        match target:
            case SessionTarget(session_id):
                written = await self._end_session(session_id, caller=caller)
                return Revocation(1 if written else 0, written)
            case SubjectTarget():
                self._check_issuer(target.issuer, allow_unknown=allow_unknown_issuer)
                return await self._revoke_subject(target, caller, not_earlier_than, most_sessions)
            case TokenTarget(issuer, token_id):
                self._check_issuer(issuer, allow_unknown=allow_unknown_issuer)
                check_name("token_id", token_id)
                not_before = NotBefore(END_OF_TIME, self._clock(), issuer=issuer, token_id=token_id)
                return await self._set_not_before(not_before, caller)
            case ProviderSessionTarget():
                self._check_issuer(target.issuer, allow_unknown=allow_unknown_issuer)
                return await self._revoke_provider_session(
                    target, caller, not_earlier_than, most_sessions
                )
            case EveryoneTarget(before_time):
                self._check_past(before_time)
                now = self._clock()
                until = max(now, not_earlier_than) if before_time is None else before_time
                return await self._set_not_before(NotBefore(until, now), caller)
            case _:
                assert_never(target)

    async def _revoke_subject(
        self, target: SubjectTarget, caller: str, not_earlier_than: float, most_sessions: int
    ) -> Revocation:
        issuer, subject, before_time = target.issuer, target.subject, target.before_time
        check_name("subject", subject)
        self._check_past(before_time)
        records, are_all = await self._records_of(issuer, subject, most_sessions)
        now = self._clock()
        held = _Held(records)
        until = (
            max(now, not_earlier_than, held.newest_issue_time())
            if before_time is None
            else before_time
        )
        count = held.count(now, until) if are_all else None
        not_before = NotBefore(until, now, issuer=issuer, subject=subject)
        return await self._set_not_before(not_before, caller, session_count=count)

    async def _revoke_provider_session(
        self,
        target: ProviderSessionTarget,
        caller: str,
        not_earlier_than: float,
        most_sessions: int,
    ) -> Revocation:
        issuer, subject = target.issuer, target.subject
        check_name("sid", target.sid)
        digest = session_digest(issuer, target.sid)
        now = self._clock()
        if not subject:
            # Its sessions are not counted, as no store finds records by a provider session.
            until = max(now, not_earlier_than)
            return await self._set_not_before(
                NotBefore(until, now, issuer, provider_session=digest), caller
            )
        check_name("subject", subject)
        records, are_all = await self._records_of(issuer, subject, most_sessions)
        now = self._clock()
        held = _Held(records, of_provider_sessions=("", digest))
        until = max(now, not_earlier_than, held.newest_issue_time())
        count = held.count(now, until) if are_all else None
        # The one of the subject first: a failure between the two is repeated by the sender.
        await self._set_not_before(
            NotBefore(until, now, issuer, subject, provider_session=NO_PROVIDER_SESSION), caller
        )
        return await self._set_not_before(
            NotBefore(until, now, issuer, provider_session=digest), caller, session_count=count
        )

    async def _records_of(self, issuer: str, subject: str, most: int) -> tuple[list[Record], bool]:
        """Records of a subject, ``most`` of them, and whether these are all."""
        found = await self._store.records_of(issuer, subject, most=most + 1)
        return found[:most], len(found) <= most

    async def _set_not_before(
        self, not_before: NotBefore, caller: str, *, session_count: int | None = None
    ) -> Revocation:
        audit = partial(
            security.tokens_revoked,
            issuer=not_before.issuer,
            subject=not_before.subject,
            token_id=not_before.token_id,
            until=not_before.time,
            caller=caller,
            provider_session=not_before.provider_session,
        )
        try:
            written = await self._store.set_not_before(not_before)
        except BaseException as error:
            if (lost := unanswered(error)) is not None:
                audit(lost=lost)
            raise
        audit()
        return Revocation(session_count, written, not_before)

    def _check_issuer(self, issuer: str, *, allow_unknown: bool) -> None:
        """
        Raises:
            AuthError: ARGUMENT_INVALID: no issuer, or one that is not configured: a misspelt name
                would revoke nothing, and look like a success.
        """
        check_name("issuer", issuer)
        configured = [it.issuer for it in self._issuers(self._clock())]
        if issuer not in configured and not allow_unknown:
            raise invalid(f"{issuer!r} is not configured; these are: {', '.join(configured)}")

    def _check_past(self, before_time: float | None) -> None:
        if before_time is not None and not 0 <= before_time <= self._clock():
            raise invalid("before_time is not in the past")


class _Held:
    """The tokens that records hold, as far as a revocation may concern them.

    Args:
        records: of one subject.
        of_provider_sessions: digests of provider sessions, empty for tokens of none; None for all.
    """

    def __init__(
        self, records: Iterable[Record], of_provider_sessions: Collection[str] | None = None
    ) -> None:
        self._grants = [
            (
                record,
                [
                    grant
                    for grant in record.grants.values()
                    if of_provider_sessions is None
                    or grant.provider_session in of_provider_sessions
                ],
            )
            for record in records
        ]

    def newest_issue_time(self) -> float:
        """The latest ``iat`` of these tokens, in seconds since the epoch; 0 for none."""
        times = (grant.issue_time for _, grants in self._grants for grant in grants)
        return max(times, default=0.0)

    def count(self, now: float, until: float) -> int:
        """How many live sessions have a valid token that a not-before time of ``until`` revokes."""
        return sum(
            now < record.expire_time and _would_end(record, grants, until)
            for record, grants in self._grants
        )


def _would_end(record: Record, grants: Iterable[Grant], until: float) -> bool:
    """Whether one of a session's tokens is valid, and a not-before time of ``until`` revokes it."""
    since = -math.inf
    if record.revoke_time is not None:
        # A principal session accepts tokens that were issued after it was revoked.
        since = record.revoke_time if record.id.startswith(PRINCIPAL_SESSION_PREFIX) else math.inf
    return any(since < grant.issue_time <= until for grant in grants)
