"""The questions about requests to the resolver. Its errors become refusals, and log lines."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from authsvc.common.rarely import Rarely
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.domain.rates import ONE_CALL, RECHECK, CallCounts
from authsvc.domain.resolution import (
    AwsCredentials,
    BearerCredentials,
    Credentials,
    NotOpenError,
    Principal,
    Resolution,
    Resolver,
    shown,
)
from authsvc.http_auth import refusals
from authsvc.http_auth.authorization import OWNER, authorize
from authsvc.http_auth.counting import CountingOptions
from authsvc.http_auth.credential_options import CredentialOptions
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.requirements import Requirement
from authsvc.http_auth.sessions import Sessions

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

WARNING_INTERVAL_SECONDS = 1.0
"""From one warning with a reason to the next. Those in between are logged at level info."""

NOT_OPEN_INTERVAL_SECONDS = 60.0
"""From one line about a gate that is not open to the next: it stays so until the program ends."""

_OUTAGES = {GrpcStatus.UNAVAILABLE, GrpcStatus.ABORTED}

_MISCONFIGURED = {Reason.CALLER_NOT_ALLOWED, Reason.RESOURCE_INVALID}
"""What no client can cause: authsvc's configuration does not match this server's."""


class RequestResolver:
    """Asks the resolver about requests for one resource.

    Args:
        resolver: answers.
        resource: canonical URI of this server.
        sessions: who mints their ids.
        on_demand: whether requests are resolved without credentials, for ``credentials`` to ask for
            them.

    Raises:
        TypeError: ``on_demand``, and the resolver cannot be asked for credentials.
    """

    def __init__(
        self, resolver: Resolver, resource: str, *, sessions: Sessions, on_demand: bool = False
    ) -> None:
        self._resolver = resolver
        self._resource = resource
        self._sessions = sessions
        self._counting = CountingOptions(resolver)
        self._credentials = CredentialOptions(resolver, on_demand=on_demand)
        self._warnings = Rarely(WARNING_INTERVAL_SECONDS)
        self._not_open = Rarely(NOT_OPEN_INTERVAL_SECONDS)

    async def identify(
        self,
        request: RequestHeaders,
        needed: Requirement | None,
        *,
        opens_session: bool,
        counts: CallCounts = ONE_CALL,
    ) -> Resolution:
        """Who makes a request. A rejected token is an error for open methods too.

        A call that lacks a scope counts towards authsvc's own limits alone. Else anybody with a
        token could use up a limit of everyone, for calls that are not their own to make.

        Args:
            request: its headers.
            needed: what it needs.
            opens_session: whether it is the ``initialize`` of a session.
            counts: what it counts as.

        Raises:
            Refusal: the resolver answers with an error, a session id is missing, or a request with
                limits of its own lacks a scope.
        """
        if counts.rate_limits and needed is not None and needed.scopes and not opens_session:
            await self._authorized_before_counting(request, needed, counts)
        return await self._identify(request, needed, opens_session=opens_session, counts=counts)

    async def _authorized_before_counting(
        self, request: RequestHeaders, needed: Requirement, counts: CallCounts
    ) -> None:
        """
        Raises:
            Refusal: the resolver answers with an error, or the caller lacks what is needed.
        """
        resolution = await self._identify(request, needed, opens_session=False, counts=RECHECK)
        try:
            authorize(resolution, needed, session_id=request.session_id)
        except Refusal:
            if resolution.principal is not None:
                of_service = CallCounts(calls=counts.calls)
                await self._identify(request, needed, opens_session=False, counts=of_service)
            raise

    async def _identify(
        self,
        request: RequestHeaders,
        needed: Requirement | None,
        *,
        opens_session: bool,
        counts: CallCounts,
    ) -> Resolution:
        """See ``identify``; a lacking scope is no error.

        Raises:
            Refusal: the resolver answers with an error, or a session id is missing.
        """
        resolver, resource = self._resolver, self._resource
        options = {**self._counting.of_resolve(counts), **self._credentials.of_request}
        # A session that the server mints is created once it has answered.
        mints = self._sessions is Sessions.MINTED
        if not request.in_session_era or (opens_session and not mints):
            ask = partial(resolver.resolve, "", request.token, resource=resource, **options)
        elif opens_session:
            options = {**self._counting.of_create(counts), **self._credentials.of_request}
            ask = partial(resolver.create, request.token, resource=resource, **options)
        elif self._sessions is Sessions.FIRST_USE:
            ask = partial(self._at_first_use, request, options)
        else:
            session_id = request.required_session_id()
            ask = partial(resolver.resolve, session_id, request.token, resource=resource, **options)
        resolution = await self._answered(ask, request, needed)
        request.is_verified = resolution.principal is not None
        return resolution

    def can_verify(self, request: RequestHeaders) -> bool:
        """Whether the token of a request can be verified before its body is read. Without a session
        id it is an ``initialize``: to resolve it would create a session, where authsvc mints them.
        """
        is_named = not request.in_session_era or bool(request.session_id)
        return is_named or self._sessions is Sessions.FIRST_USE

    def creates(self, request: RequestHeaders) -> bool:
        """Whether a request that opens no session creates its own where authsvc knows none."""
        return self._sessions is Sessions.FIRST_USE and bool(request.session_id)

    async def check(
        self,
        request: RequestHeaders,
        needed: Requirement | None,
        admitted: Resolution,
        session_id: str,
    ) -> None:
        """Whether the caller may still have a response that streams. It counts towards no limit.

        A resolver of a user's own may answer with another caller, such as none for a token that is
        not valid any more, and so may authsvc for a token that an issuer has to be asked about.

        Args:
            request: the request that is answered.
            needed: what it needs.
            admitted: the resolution that it was served with.
            session_id: of the session that the stream ends with; empty for none.

        Raises:
            Refusal: the caller may not.
        """
        if not session_id and not request.token:
            return  # neither a session nor a token can end
        options = {**self._counting.of_resolve(RECHECK), **self._credentials.of_request}

        async def ask() -> Resolution:
            answer = await self._resolver.resolve(
                session_id, request.token, resource=self._resource, **options
            )
            return _of_same_caller(answer, admitted.principal)

        resolution = await self._answered(ask, request, needed, log_fields(session_id, admitted))
        authorize(resolution, needed, session_id=session_id)

    async def credentials(
        self,
        request: RequestHeaders,
        needed: Requirement | None,
        session_id: str,
        wanted: CredentialRequest,
        admitted: Principal,
    ) -> Credentials | None:
        """Credentials for the caller of a request that is being served; None where it has none.

        The session, the token and its scopes are checked again. It counts towards no limit.

        Args:
            request: its headers.
            needed: what it needs.
            session_id: of the session that it is in; empty for none.
            wanted: which credentials.
            admitted: the caller that it was served as.

        Raises:
            AuthError: they are refused or unavailable, or the caller may no longer be served.
            TypeError: the resolver takes no credentials.
        """
        options = {**self._counting.of_resolve(RECHECK), **self._credentials.of(wanted)}
        try:
            answer = await self._resolver.resolve(
                session_id, request.token, resource=self._resource, **options
            )
            resolution = _of_same_caller(answer, admitted)
        except AuthError as error:
            failed = error.raisable()  # without the frames, which hold the token
        except NotOpenError:
            failed = AuthError(Reason.SERVICE_UNAVAILABLE, "the gate is not open")
        except Exception as error:  # noqa: BLE001 - fails closed, whatever a resolver raises
            log_unexpected(log, "the resolver failed", error)
            failed = AuthError(Reason.SERVICE_UNAVAILABLE, "the resolver failed")
        else:
            principal = resolution.principal
            if needed is None or (principal and needed.met_by(principal.scopes)):
                return _issued(resolution, wanted.name)
            failed = AuthError(
                Reason.CREDENTIALS_REFUSED, "the token lacks a scope that the request needs"
            )
        raise failed

    async def adopt(self, session_id: str, request: RequestHeaders) -> Resolution:
        """Make a session that the app has minted one of authsvc's, owned by its caller. It counts
        towards no limit: its ``initialize`` has.

        Raises:
            Refusal: the resolver answers with an error.
        """
        options = {**self._counting.of_resolve(RECHECK), **self._credentials.of_request}
        resource, token = self._resource, request.token
        ask = partial(
            self._resolver.resolve, session_id, token, resource=resource, create=True, **options
        )
        return await self._answered(ask, request, None, log_fields(session_id))

    async def revoke(self, request: RequestHeaders, owner: Resolution) -> None:
        """End the request's session for its owner.

        Raises:
            Refusal: the resolver answers with an error.
        """
        ask = partial(self._resolver.revoke, request.session_id)
        await self._answered(ask, request, OWNER, log_fields(request.session_id, owner))

    async def _at_first_use(
        self, request: RequestHeaders, options: Mapping[str, Any]
    ) -> Resolution:
        """The caller of a request of a session that the server may have minted unseen.

        A token adopts it. Without one nothing is stored, so that nobody can fill the store by
        naming sessions, and one that is not known has no owner.

        Args:
            request: its headers.
            options: what it counts as, for the resolver.

        Raises:
            AuthError: of the resolver.
        """
        session_id, token = request.session_id, request.token
        resolve, resource = self._resolver.resolve, self._resource
        ask = partial(resolve, session_id, token, resource=resource, **options)
        if not session_id:
            return await ask()
        if token:
            return await ask(create=True)
        try:
            return await ask()
        except AuthError as error:
            if error.reason is not Reason.SESSION_NOT_FOUND:
                raise
            return Resolution()

    async def _answered(
        self,
        ask: Callable[[], Awaitable[ResultT]],
        request: RequestHeaders,
        needed: Requirement | None,
        fields: Mapping[str, str] | None = None,
    ) -> ResultT:
        """What the resolver answers.

        Args:
            ask: calls the resolver.
            request: the request that is decided.
            needed: what it needs, for the challenge.
            fields: of the log line; None for those that the request's headers give.

        Raises:
            Refusal: it answers with an error.
        """
        try:
            return await ask()
        except AuthError as error:
            if fields is None:
                fields = log_fields(request.session_id, Resolution(principal=error.principal))
            log.log(
                self._level_of(error.reason),
                "request rejected: %s%s",
                error,
                self._advice(error.reason),
                extra={"reason": error.reason.name, **fields},
            )
            scopes = needed.scopes if needed else ()
            raise refusals.refusal_of(
                error, in_session=bool(request.session_id), scopes=scopes
            ) from None
        except NotOpenError:
            if self._not_open.may_pass(NotOpenError):
                log.error(
                    "the gate is not open, so requests are answered 503: enter gate.running() in "
                    "your app's lifespan, or have the server send lifespan events"
                )
            raise refusals.service_unavailable() from None
        except Exception as error:  # noqa: BLE001 - fails closed, whatever a resolver raises
            log_unexpected(log, "the resolver failed", error)
            raise refusals.internal_error() from None

    def _advice(self, reason: Reason) -> str:
        """What a log line adds where authsvc does not know this server for this resource."""
        if reason not in _MISCONFIGURED:
            return ""
        return (
            f": this gate asks for resource {self._resource}; name it in authsvc's resources, or "
            "in the resources of this server's [[callers]]"
        )

    def _level_of(self, reason: Reason) -> int:
        """Warning for what an operator has to mend, at a bounded rate; info for what clients cause,
        at any rate they like."""
        is_ours = reason.status in _OUTAGES or reason in _MISCONFIGURED
        return logging.WARNING if is_ours and self._warnings.may_pass(reason) else logging.INFO


def _of_same_caller(resolution: Resolution, admitted: Principal | None) -> Resolution:
    """An answer of the resolver about a caller that it has been asked about before.

    Args:
        resolution: the answer; of a resolver of a user's own it may be anything.
        admitted: the caller at that time; None for none, which may become anyone.

    Raises:
        AuthError: SESSION_SUBJECT_MISMATCH where the caller is another one.
        TypeError: it is no answer.
    """
    if not isinstance(resolution, Resolution):
        raise TypeError(f"the resolver's answer is {type(resolution).__name__}")
    if admitted is not None and _identity(resolution.principal) != _identity(admitted):
        raise AuthError(Reason.SESSION_SUBJECT_MISMATCH, "the token is not this caller's any more")
    return resolution


def _identity(principal: Principal | None) -> tuple[str, str] | None:
    return None if principal is None else (principal.issuer, principal.subject)


def _issued(resolution: Resolution, name: str) -> Credentials | None:
    """
    Raises:
        AuthError: they are refused or unavailable; SERVICE_UNAVAILABLE where they are none.
    """
    issued = resolution.credentials_of(name)
    if issued is not None and not isinstance(issued, AwsCredentials | BearerCredentials):
        raise AuthError(Reason.SERVICE_UNAVAILABLE, "the resolver's credentials are none")
    return issued


def log_fields(session_id: str, resolution: Resolution | None = None) -> dict[str, str]:
    """Fields of a log line: the session, as logs show it, and its subject; empty where unknown."""
    principal = resolution.principal if resolution is not None else None
    return {
        "session": shown(session_id) if session_id else "",
        "subject": principal.subject if principal is not None else "",
    }
