"""``AdminClient``, for operators' tools: ``SessionAdminService`` over gRPC.

Raises ``AuthError`` and nothing else that is expected.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from authsvc.client.admin_channels import AdminChannel, AdminChannels, Rpc
from authsvc.client.admin_watch import Watch, Watched
from authsvc.client.calls import Calls, Method
from authsvc.client.retries import RetryPolicy
from authsvc.client.targets import Targets
from authsvc.client.tls import ClientTls
from authsvc.common import arguments
from authsvc.domain.events import RecordFilter
from authsvc.domain.record import Record
from authsvc.domain.resolution import NotOpenError
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.domain.service_status import ServiceStatus
from authsvc.domain.signal_status import StreamStatus
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import admin as admin_wire
from authsvc.wire import signals as signals_wire
from authsvc.wire.revocation import revocation_message

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

ALL = RecordFilter()

_POLICY = RetryPolicy(per_try_timeout_fraction=0.5)
"""One replica that does not answer leaves the others half of the time. Every call is idempotent, so
it is repeated for as long as its deadline lasts."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The result of a revocation.

    Attributes:
        session_count: how many live sessions held a token that it revoked; None if not counted.
        consistency_token: a call that carries it sees the revocation, on every replica.
    """

    session_count: int | None
    consistency_token: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of sessions.

    Attributes:
        records: as in ``AdminClient.get``.
        next_page_token: requests the next page; empty at the end.
    """

    records: tuple[Record, ...]
    next_page_token: str


def _method(rpc: Rpc[RequestT, ResponseT]) -> Method[AdminChannel, RequestT, ResponseT]:
    return Method(
        lambda channel, request, timeout: channel.ask(rpc, request, timeout), idempotent=True
    )


_GET: Method[AdminChannel, pb.GetSessionRequest, pb.GetSessionResponse] = _method(
    lambda stub: stub.GetSession
)
_LIST: Method[AdminChannel, pb.ListSessionsRequest, pb.ListSessionsResponse] = _method(
    lambda stub: stub.ListSessions
)
_REVOKE: Method[AdminChannel, pb.RevokeSessionsRequest, pb.RevokeSessionsResponse] = _method(
    lambda stub: stub.RevokeSessions
)
_STATUS: Method[AdminChannel, pb.GetServiceStatusRequest, pb.GetServiceStatusResponse] = _method(
    lambda stub: stub.GetServiceStatus
)
_STREAMS: Method[AdminChannel, pb.ListSignalStreamsRequest, pb.ListSignalStreamsResponse] = _method(
    lambda stub: stub.ListSignalStreams
)


class AdminClient:
    """An operator's connection to authsvc, for use within ``async with``, and again after that.

    Every call is idempotent: one that fails is retried, at one replica after another, until its
    deadline.

    Args:
        target: ``host:port``, ``unix:/path`` or ``dns:///host:port``; several with commas between,
            or a sequence, for several replicas.
        deadline_seconds: how long one call may take, retries included.
        tls: None for a socket of this machine. Its files may change while the client runs.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the target is invalid, or ``deadline_seconds`` is not a finite number above 0.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        deadline_seconds: float = 10.0,
        tls: ClientTls | None = None,
    ) -> None:
        arguments.positive_number("deadline_seconds", deadline_seconds)
        if tls is not None:
            arguments.instance_of("tls", tls, ClientTls)
        items = target.split(",") if isinstance(target, str) else arguments.texts("target", target)
        targets = Targets.parse(items)
        if tls is None:
            targets.check_plaintext()
        self._channels = AdminChannels([item.strip() for item in items], tls)
        self._opened_calls = Calls(self._channels, _POLICY, deadline_seconds=deadline_seconds)

    async def __aenter__(self) -> Self:
        """
        Raises:
            RuntimeError: it is open already.
        """
        if not self._channels.closed:
            raise RuntimeError("AdminClient is open already: open it once and share it")
        self._channels.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channels.close()

    async def get(self, session_id: str) -> Record:
        """One session. Its grants come without their digests, which never leave authsvc, and with
        ``token_revoked``.

        Raises:
            AuthError: SESSION_NOT_FOUND.
        """
        request = pb.GetSessionRequest(session_id=session_id)
        answer = await self._calls.make(_GET, request)
        return admin_wire.record_of(answer.session)

    async def page(
        self, which: RecordFilter = ALL, *, page_size: int = 0, page_token: str = ""
    ) -> Listed:
        """One page of sessions, newest first.

        Args:
            which: the filter that they match.
            page_size: how many at most; 0 for authsvc's default.
            page_token: ``Listed.next_page_token`` of the previous page, with the same filter.

        Raises:
            AuthError: ARGUMENT_INVALID.
        """
        request = pb.ListSessionsRequest(
            page_size=page_size, page_token=page_token, filter=admin_wire.filter_message(which)
        )
        answer = await self._calls.make(_LIST, request)
        return Listed(tuple(map(admin_wire.record_of, answer.sessions)), answer.next_page_token)

    async def list(self, which: RecordFilter = ALL, *, page_size: int = 0) -> AsyncIterator[Record]:
        """Sessions, newest first, fetched page by page.

        Args:
            which: the filter that they match.
            page_size: how many are fetched at once; 0 for authsvc's default.

        Raises:
            AuthError: ARGUMENT_INVALID.
        """
        page_token = ""
        while True:
            listed = await self.page(which, page_size=page_size, page_token=page_token)
            for record in listed.records:
                yield record
            page_token = listed.next_page_token
            if not page_token:
                return

    async def revoke(
        self, target: RevocationTarget, *, allow_unknown_issuer: bool = False
    ) -> Revoked:
        """Revoke a session, or tokens: of a subject, one token, those of a provider session, or
        everyone's.

        Args:
            target: what is revoked. Its issuer is one of those that ``status`` names.
            allow_unknown_issuer: whether the issuer may be one that authsvc is not configured with.

        Returns:
            Of a session, the count is 0 if there was nothing to revoke.

        Raises:
            AuthError: SESSION_ID_INVALID; or ARGUMENT_INVALID, for an issuer that is not
                configured, too.
        """
        request = revocation_message(target, allow_unknown_issuer=allow_unknown_issuer)
        answer = await self._calls.make(_REVOKE, request)
        is_known = answer.HasField("revoked_session_count")
        count = answer.revoked_session_count if is_known else None
        return Revoked(count, answer.consistency_token)

    async def revoke_subject(
        self,
        issuer: str,
        subject: str,
        *,
        before_time: float | None = None,
        allow_unknown_issuer: bool = False,
    ) -> Revoked:
        """Revoke every token of a subject that was issued up to a time, now by default.

        Args:
            issuer: claim ``iss``.
            subject: claim ``sub``.
            before_time: the time, in seconds since the epoch.
            allow_unknown_issuer: see ``revoke``.
        """
        target = SubjectTarget(issuer, subject, before_time)
        return await self.revoke(target, allow_unknown_issuer=allow_unknown_issuer)

    async def revoke_token(
        self, issuer: str, token_id: str, *, allow_unknown_issuer: bool = False
    ) -> Revoked:
        """Revoke one token, by its ``jti``, whenever it was issued.

        Args:
            issuer: claim ``iss``.
            token_id: claim ``jti``.
            allow_unknown_issuer: see ``revoke``.
        """
        target = TokenTarget(issuer, token_id)
        return await self.revoke(target, allow_unknown_issuer=allow_unknown_issuer)

    async def revoke_provider_session(
        self, issuer: str, sid: str, *, subject: str = "", allow_unknown_issuer: bool = False
    ) -> Revoked:
        """Revoke the tokens of a session at the identity provider, issued until now.

        Args:
            issuer: claim ``iss``.
            sid: claim ``sid`` of the tokens.
            subject: claim ``sub``, where it is known: its tokens without ``sid`` are revoked, too.
            allow_unknown_issuer: see ``revoke``.

        Returns:
            The count is None without a subject.
        """
        target = ProviderSessionTarget(issuer, sid, subject)
        return await self.revoke(target, allow_unknown_issuer=allow_unknown_issuer)

    async def revoke_everyone(self, *, before_time: float | None = None) -> Revoked:
        """Revoke every token of everyone that was issued up to a time, now by default."""
        return await self.revoke(EveryoneTarget(before_time))

    async def revoke_session(self, session_id: str) -> Revoked:
        """Revoke one session, for every resource."""
        return await self.revoke(SessionTarget(session_id))

    async def status(self, *, count_sessions: bool = False) -> ServiceStatus:
        """The status of the process that answers: one of several replicas or workers.

        Args:
            count_sessions: whether sessions are counted, which reads their records.

        Raises:
            AuthError: SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
        """
        request = pb.GetServiceStatusRequest(count_sessions=count_sessions)
        answer = await self._calls.make(_STATUS, request)
        return admin_wire.service_status_of(answer)

    async def signal_streams(self) -> tuple[StreamStatus, ...]:
        """The streams of signals, and what has come in each, at every replica.

        Raises:
            AuthError: SERVICE_UNAVAILABLE, STORE_UNAVAILABLE.
        """
        answer = await self._calls.make(_STREAMS, pb.ListSignalStreamsRequest())
        return signals_wire.streams_of(answer)

    @asynccontextmanager
    async def watching(
        self, which: RecordFilter = ALL, *, resume_token: str = ""
    ) -> AsyncIterator[AsyncIterator[Watched]]:
        """Events from now on, or after the event that had ``resume_token``.

        A watch that is interrupted resumes at any replica, and retries without a limit. Events
        that are still kept are not lost.

        Args:
            which: sessions; revocations of tokens are included where they may concern one of them.
            resume_token: of the last event received; empty for from now on.

        Yields:
            The events. Whatever happens after this is entered is among them.

        Raises:
            AuthError: ARGUMENT_INVALID, OVERLOADED; while iterating, too.
        """
        request = pb.WatchSessionsRequest(
            resume_token=resume_token, filter=admin_wire.filter_message(which)
        )
        watch = Watch(self._calls, request)
        await watch.begin()
        try:
            yield watch.events()
        finally:
            watch.end()

    @property
    def _calls(self) -> Calls[AdminChannel]:
        """
        Raises:
            NotOpenError: the client is not open.
        """
        if self._channels.closed:
            raise NotOpenError("AdminClient is used within `async with`")
        return self._opened_calls
