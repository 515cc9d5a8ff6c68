"""``FakeResolver``: takes the place of authsvc behind a gate, and decides as it does."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from authsvc.access.rates import CallRates
from authsvc.common import arguments
from authsvc.domain.credential_requests import CredentialRequest, check_selection
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import CallCounts, RateLimit
from authsvc.domain.read_only import read_only
from authsvc.domain.resolution import (
    Actor,
    Credentials,
    NotOpenError,
    Outcome,
    Principal,
    Resolution,
    Session,
    SessionState,
)
from mcp_adapter.testing.named_credentials import Named, checked, issued
from mcp_adapter.testing.principals import (
    ISSUER,
    LIFETIME_SECONDS,
    check_credentials,
    lists_of,
    principal_of,
)

__all__ = ["ISSUER", "FakeResolver"]

_NO_SESSION_ID = "~principal"
"""The session id of answers to requests that have a token and no session id."""


class FakeResolver:
    """A ``Resolver`` in memory, for ``SessionGate(..., resolver=FakeResolver())``.

    It decides as authsvc does: a session belongs to the first issuer and subject that use it, and
    a token is valid until it expires. It does not check the resource, and keeps everything it is
    given.

    Like a client of authsvc it is open within ``async with``, which the gate enters with the
    server's lifespan: a server that forgets ``gate.running()`` is answered 503 in its tests, too.

    Attributes:
        tokens: the valid tokens, and whose they are.
        credentials: by token, what is issued for its caller.
        named: by token and name, what is issued for its caller by name.
        rejected: tokens that are not valid, and the reason.
        sessions: by session id, the owner's issuer and subject; None while the session is
            unauthenticated.
        clock: seconds of any origin, for the limits of ``Requirement``; a test may replace it.
        error: what each call raises, such as ``AuthError(Reason.SERVICE_UNAVAILABLE)``; None for
            nothing.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, Principal] = {}
        self.credentials: dict[str, Credentials] = {}
        self.named: dict[str, dict[str, Named]] = {}
        self.rejected: dict[str, Reason] = {}
        self.sessions: dict[str, tuple[str, str] | None] = {}
        self.clock: Callable[[], float] = time.monotonic
        self.error: Exception | None = None
        self._rates = CallRates(clock=self._now)
        self._times_open = 0

    async def __aenter__(self) -> Self:
        """Open it. Gates may share it: it is closed with the last of them."""
        self._times_open += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self._times_open -= 1

    def issue(
        self,
        who: Principal | str,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        buckets: Iterable[str] = (),
        permissions: Iterable[str] = (),
        credentials: Credentials | None = None,
        named: Mapping[str, Named] | None = None,
        actor: Actor | str | None = None,
    ) -> str:
        """A new token, for ``Authorization: Bearer``.

        Args:
            who: its caller, or the subject of one.
            scopes: of the token, where ``who`` is a subject, as for the next three.
            roles: role names.
            buckets: bucket names, without ``s3://``.
            permissions: actions such as ``s3:GetObject``.
            credentials: issued for the caller with each answer.
            named: see ``as_caller``, as for all that follows.
            actor: who acts for the caller.

        Raises:
            TypeError: an argument is of another type, such as one string where several are meant.
            ValueError: there are ``scopes``, another list or an ``actor`` beside a ``Principal``,
                which has its own, or no token could hold one of them; or a name is none.
        """
        check_credentials(credentials)
        by_name = checked(named)
        lists = lists_of(scopes, roles, buckets, permissions)
        token = secrets.token_urlsafe(16)
        self.tokens[token] = principal_of(who, lists, actor)
        self.named[token] = by_name
        if credentials is not None:
            self.credentials[token] = credentials
        return token

    def reject(self, token: str, reason: Reason = Reason.TOKEN_REVOKED) -> None:
        """Reject a token from now on, for ``reason``.

        Raises:
            TypeError: an argument is of another type.
        """
        arguments.instance_of("token", token, str)
        arguments.instance_of("reason", reason, Reason)
        self.tokens.pop(token, None)
        self.rejected[token] = reason

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        rate_limits: Sequence[RateLimit] = (),
        calls: int = 1,
        recheck: bool = False,
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """Decide on one request, as ``AuthClient.resolve`` does."""
        principal = self._verified(token)
        is_known = session_id in self.sessions
        if session_id and not is_known and not create:
            raise AuthError(Reason.SESSION_NOT_FOUND)
        if is_known and principal and self.sessions[session_id] not in (None, _owner(principal)):
            raise AuthError(Reason.SESSION_SUBJECT_MISMATCH)
        self._count(principal, resource, CallCounts(tuple(rate_limits), calls, recheck))
        if not session_id:
            resolution = self._resolution(_NO_SESSION_ID, token) if principal else Resolution()
        elif not is_known:
            resolution = self._created(session_id, token)
        else:
            if principal is not None:
                self.sessions[session_id] = _owner(principal)
            resolution = self._resolution(session_id, token)
        return self._selected(resolution, token, credentials)

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """Create a session, as ``AuthClient.create`` does."""
        self._count(self._verified(token), resource, CallCounts(tuple(rate_limits)))
        created = self._created(secrets.token_urlsafe(16), token)
        return self._selected(created, token, credentials)

    async def revoke(self, session_id: str) -> None:
        """End a session, as ``AuthClient.revoke`` does."""
        self._check_answers()
        self.sessions.pop(session_id, None)

    def _check_answers(self) -> None:
        """
        Raises:
            NotOpenError: it is not open.
            Exception: what ``error`` is.
        """
        if not self._times_open:
            raise NotOpenError("FakeResolver is used within `async with`")
        if self.error is not None:
            raise self.error

    def _now(self) -> float:
        return self.clock()

    def _count(self, principal: Principal | None, resource: str, counts: CallCounts) -> None:
        """
        Raises:
            AuthError: RATE_LIMITED.
        """
        if principal is None:
            return
        reached = self._rates.take(self._rates.uses(principal, resource, counts))
        if reached is not None:
            raise AuthError(
                Reason.RATE_LIMITED,
                retry_after_seconds=reached.wait_seconds,
                limit=reached.use.limit.name,
                principal=principal,
            )

    def _verified(self, token: str) -> Principal | None:
        """
        Raises:
            AuthError: the token is not valid; or what ``error`` is.
            NotOpenError: it is not open.
        """
        self._check_answers()
        if not token:
            return None
        if token in self.rejected or token not in self.tokens:
            raise AuthError(self.rejected.get(token, Reason.TOKEN_MALFORMED))
        principal = self.tokens[token]
        if principal.expire_time <= time.time():
            raise AuthError(Reason.TOKEN_EXPIRED)
        return principal

    def _created(self, session_id: str, token: str) -> Resolution:
        principal = self.tokens.get(token)
        self.sessions[session_id] = _owner(principal) if principal else None
        return replace(self._resolution(session_id, token), outcome=Outcome.CREATED)

    def _resolution(self, session_id: str, token: str) -> Resolution:
        principal = self.tokens.get(token)
        state = SessionState.AUTHENTICATED if principal else SessionState.UNAUTHENTICATED
        now = time.time()
        session = Session(session_id, state, 1, now, now + LIFETIME_SECONDS)
        return Resolution(session, Outcome.REUSED, principal, self.credentials.get(token))

    def _selected(
        self, resolution: Resolution, token: str, selection: Sequence[CredentialRequest] | None
    ) -> Resolution:
        """A resolution with the credentials that are asked for."""
        if selection is None:
            return resolution
        principal, by_name = resolution.principal, self.named.get(token, {})
        found: dict[str, Credentials | AuthError] = {}
        for wanted in check_selection(selection):
            if principal is None:
                continue
            value = issued({**by_name, "": resolution.credentials}, principal, wanted)
            if value is not None:
                found[wanted.name] = value
        return replace(resolution, credentials=None, named_credentials=read_only(found))


def _owner(principal: Principal) -> tuple[str, str]:
    """Whose session it becomes: two issuers may give the same subject to different people."""
    return principal.issuer, principal.subject
