"""What operators' tools import: ``AdminClient``, ``SessionAdminService`` over gRPC.

Raises ``AuthError`` and nothing else that is expected.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from grpc import aio

from authsvc.client.failures import CLOSED, Failure, failure_of, is_caller_cancelled, located
from authsvc.client.targets import Targets
from authsvc.client.tls import Certificates, ClientTls, Metadata, ServiceToken
from authsvc.common import arguments
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import Event, RecordFilter
from authsvc.domain.service_status import ServiceStatus
from authsvc.domain.sessions import Record
from authsvc.net.channels import LASTING, open_channel
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire import admin as admin_wire
from authsvc.wire import auth as wire

ALL = RecordFilter()

BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 1.0
"""Waits between attempts: random up to the first, then up to twice as much each time."""

ResultT = TypeVar("ResultT")

# The stubs know this class; the module itself does not.
_Stub: TypeAlias = "pb_grpc.SessionAdminServiceAsyncStub"
_Attempt = Callable[[_Stub, Metadata, float], Awaitable[ResultT]]
"""What to do with a stub and the metadata of the call, within so many seconds."""

_WatchCall = aio.UnaryStreamCall[pb.WatchSessionsRequest, pb.WatchSessionsResponse]


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation has done.

    Attributes:
        session_count: how many live sessions held a token that it ended; None when not known.
        consistency_token: whoever shows it is answered accordingly, by every replica.
    """

    session_count: int | None
    consistency_token: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of sessions.

    Attributes:
        records: as in ``AdminClient.get``.
        next_page_token: what to ask for the next page with; empty at the end.
    """

    records: tuple[Record, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Watched:
    """An event that was watched.

    Attributes:
        resume_token: what to watch from to get all that comes after it.
        event: what happened. Its records are as in ``AdminClient.get``.
    """

    resume_token: str
    event: Event


class AdminClient:
    """An operator's connection to authsvc, for use within ``async with``, and again after that.

    Every call may be repeated, and is, at one replica after another, while there is time.

    Args:
        target: ``host:port``, ``unix:/path`` or ``dns:///host:port``; several with commas between,
            or a sequence, for several replicas.
        deadline_seconds: how long one call may take, its repetitions included.
        tls: None for a socket of this machine. Its files may change while the client runs.

    Raises:
        TypeError: an argument is of another type than it says.
        ValueError: the target is none of these, or ``deadline_seconds`` no finite number above 0.
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
        self._addresses = [item.strip() for item in items]
        self._deadline_seconds = deadline_seconds
        self._certificates = Certificates(tls)
        self._token = ServiceToken(tls.service_token_file if tls else None)
        self._channels: list[aio.Channel] = []
        self._outdated: list[aio.Channel] = []
        self._preferred = 0

    async def __aenter__(self) -> Self:
        """
        Raises:
            RuntimeError: it is open already.
        """
        if self._channels:
            raise RuntimeError("AdminClient is open already: open it once, and share it")
        self._connect()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        channels = self._channels + self._outdated
        self._channels, self._outdated = [], []
        await asyncio.gather(*(channel.close() for channel in channels))

    async def get(self, session_id: str) -> Record:
        """One session. Its grants have no digests: nobody gets to see them.

        Raises:
            AuthError: SESSION_NOT_FOUND.
        """
        request = pb.GetSessionRequest(session_id=session_id)
        answer = await self._repeated(
            lambda stub, metadata, timeout: stub.GetSession(
                request, metadata=metadata, timeout=timeout
            )
        )
        return admin_wire.record_of(answer.session)

    async def page(
        self, which: RecordFilter = ALL, *, page_size: int = 0, page_token: str = ""
    ) -> Listed:
        """One page of sessions, newest first.

        Args:
            which: what they have to match.
            page_size: how many at most; 0 for authsvc's own measure.
            page_token: ``Listed.next_page_token`` of the page before, with the same filter.

        Raises:
            AuthError: ARGUMENT_INVALID.
        """
        request = pb.ListSessionsRequest(
            page_size=page_size, page_token=page_token, filter=admin_wire.filter_message(which)
        )
        answer = await self._repeated(
            lambda stub, metadata, timeout: stub.ListSessions(
                request, metadata=metadata, timeout=timeout
            )
        )
        return Listed(tuple(map(admin_wire.record_of, answer.sessions)), answer.next_page_token)

    async def list(self, which: RecordFilter = ALL, *, page_size: int = 0) -> AsyncIterator[Record]:
        """Sessions, newest first, page by page as they are asked for.

        Args:
            which: what they have to match.
            page_size: how many are fetched at once; 0 for authsvc's own measure.

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

    async def revoke_subject(
        self,
        issuer: str,
        subject: str,
        *,
        before_time: float | None = None,
        allow_unknown_issuer: bool = False,
    ) -> Revoked:
        """End every token of a subject that was issued up to a time, now by default.

        Args:
            issuer: claim ``iss``; one of those that ``status`` names.
            subject: claim ``sub``.
            before_time: the time, in seconds since the epoch.
            allow_unknown_issuer: whether the issuer may be one that authsvc is not configured with.

        Raises:
            AuthError: ARGUMENT_INVALID; for an issuer that is not configured, too.
        """
        target = pb.RevokeSessionsRequest.SubjectTarget(issuer=issuer, subject=subject)
        request = pb.RevokeSessionsRequest(
            subject=target, allow_unknown_issuer=allow_unknown_issuer
        )
        return await self._revoke(_until(before_time, request))

    async def revoke_token(
        self, issuer: str, token_id: str, *, allow_unknown_issuer: bool = False
    ) -> Revoked:
        """End one token, by its ``jti``, whenever it was issued.

        Args:
            issuer: claim ``iss``; one of those that ``status`` names.
            token_id: claim ``jti``.
            allow_unknown_issuer: whether the issuer may be one that authsvc is not configured with.

        Raises:
            AuthError: ARGUMENT_INVALID; for an issuer that is not configured, too.
        """
        target = pb.RevokeSessionsRequest.TokenTarget(issuer=issuer, token_id=token_id)
        return await self._revoke(
            pb.RevokeSessionsRequest(token=target, allow_unknown_issuer=allow_unknown_issuer)
        )

    async def revoke_everyone(self, *, before_time: float | None = None) -> Revoked:
        """End every token of everyone that was issued up to a time, now by default.

        Raises:
            AuthError: ARGUMENT_INVALID.
        """
        target = pb.RevokeSessionsRequest.EveryoneTarget()
        return await self._revoke(_until(before_time, pb.RevokeSessionsRequest(everyone=target)))

    async def revoke_session(self, session_id: str) -> Revoked:
        """End one session, for every resource; it counts 0 if there was nothing to end.

        Raises:
            AuthError: SESSION_ID_INVALID.
        """
        target = pb.RevokeSessionsRequest.SessionTarget(session_id=session_id)
        return await self._revoke(pb.RevokeSessionsRequest(session=target))

    async def status(self, *, count_sessions: bool = False) -> ServiceStatus:
        """How the process that answers is: one of several replicas or workers.

        Args:
            count_sessions: whether sessions are counted, which reads their records.

        Raises:
            AuthError: STORE_UNAVAILABLE.
        """
        request = pb.GetServiceStatusRequest(count_sessions=count_sessions)
        answer = await self._repeated(
            lambda stub, metadata, timeout: stub.GetServiceStatus(
                request, metadata=metadata, timeout=timeout
            )
        )
        return admin_wire.status_of(answer)

    @asynccontextmanager
    async def watching(
        self, which: RecordFilter = ALL, *, resume_token: str = ""
    ) -> AsyncIterator[AsyncIterator[Watched]]:
        """What happens from here on, or after the event that ``resume_token`` came with.

        A watch that breaks is taken up again, at any replica, for as long as it takes; no event
        that is still kept is lost on the way.

        Args:
            which: sessions; a cut-off is told of where it may concern one of them.
            resume_token: of the last event seen; empty for from now on.

        Yields:
            The events. What happens once they are there to be asked for is among them.

        Raises:
            AuthError: ARGUMENT_INVALID, OVERLOADED; while iterating, too.
        """
        request = pb.WatchSessionsRequest(
            resume_token=resume_token, filter=admin_wire.filter_message(which)
        )
        watch = _Watch(self._repeated, request)
        await watch.begin(self._deadline_seconds)
        try:
            yield watch.events()
        finally:
            watch.end()

    async def _revoke(self, request: pb.RevokeSessionsRequest) -> Revoked:
        answer = await self._repeated(
            lambda stub, metadata, timeout: stub.RevokeSessions(
                request, metadata=metadata, timeout=timeout
            )
        )
        is_known = answer.HasField("revoked_session_count")
        count = answer.revoked_session_count if is_known else None
        return Revoked(count, answer.consistency_token)

    async def _repeated(
        self, attempt: _Attempt[ResultT], deadline_seconds: float | None = None
    ) -> ResultT:
        """What comes of the first attempt that gets through.

        Args:
            attempt: is safe to repeat.
            deadline_seconds: for all of them together.

        Raises:
            AuthError: authsvc's own, or STORE_UNAVAILABLE.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + (deadline_seconds or self._deadline_seconds)
        backoff_seconds = BACKOFF_SECONDS
        why: AuthError | None = None
        while True:
            stub, number = self._stub()
            # One that does not answer leaves the others half of the time.
            left = min(deadline - now(), self._deadline_seconds)
            timeout = left / min(2, len(self._channels))
            try:
                return await attempt(stub, self._token.metadata(), timeout)
            except aio.AioRpcError as error:
                failure = failure_of(error)
            except TimeoutError:
                failure = Failure(_no_answer(), may_repeat=True, timed_out=True)
            except asyncio.CancelledError:
                if is_caller_cancelled():
                    raise
                failure = CLOSED
            # An attempt that the deadline cuts off knows less than one before it.
            if why is None or not failure.timed_out:
                why = located(failure.error, self._addresses[number])
            if not failure.may_repeat or not self._channels:
                raise why
            self._preferred = number + 1
            wait = random.uniform(0.0, backoff_seconds)  # noqa: S311 - jitter
            if now() + wait >= deadline:
                raise why
            await asyncio.sleep(wait)
            backoff_seconds = min(2 * backoff_seconds, MAX_BACKOFF_SECONDS)

    def _stub(self) -> tuple[_Stub, int]:
        """Of the preferred replica, and which that is."""
        if not self._channels:
            raise RuntimeError("AdminClient is used within `async with`")
        if self._certificates.renew():
            # Watches go on, on the old ones.
            self._outdated += self._channels
            self._connect()
        number = self._preferred % len(self._channels)
        return pb_grpc.SessionAdminServiceStub(self._channels[number]), number

    def _connect(self) -> None:
        self._channels = [self._channel(address) for address in self._addresses]

    def _channel(self, address: str) -> aio.Channel:
        return open_channel(address, self._certificates.credentials, LASTING)


class _Watch:
    """A watch that outlives its streams."""

    def __init__(
        self, repeated: Callable[..., Awaitable[_WatchCall]], request: pb.WatchSessionsRequest
    ) -> None:
        self._repeated = repeated
        self._request = request
        self._call: _WatchCall | None = None

    async def begin(self, deadline_seconds: float) -> None:
        """Open a stream; once it is open, nothing is missed."""
        self._call = await self._repeated(self._opened, deadline_seconds)

    async def events(self) -> AsyncIterator[Watched]:
        """Of one stream after another."""
        while self._call is not None:
            try:
                async for message in self._call:
                    self._request.resume_token = message.resume_token
                    event = admin_wire.event_of(message)
                    if event is not None:
                        yield Watched(message.resume_token, event)
            except aio.AioRpcError as error:
                failure = failure_of(error)
                # The service token may have been replaced; one that was withdrawn begins no stream.
                is_replaced = failure.error.reason is Reason.CALLER_NOT_ALLOWED
                if not failure.may_repeat and not is_replaced:
                    raise failure.error from None
            except asyncio.CancelledError:
                if is_caller_cancelled():
                    raise
                raise AuthError(CLOSED.error.reason, CLOSED.error.detail) from None
            # A server that ends each stream at once is not asked in a loop.
            await asyncio.sleep(random.uniform(0.0, BACKOFF_SECONDS))  # noqa: S311 - jitter
            await self.begin(math.inf)

    def end(self) -> None:
        """Close the stream."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def _opened(self, stub: _Stub, metadata: Metadata, seconds: float) -> _WatchCall:
        call = stub.WatchSessions(self._request, metadata=metadata)
        try:
            async with asyncio.timeout(seconds):
                begun = await call.initial_metadata()
                if call.done():
                    await call.read()  # raises why
        except BaseException:
            call.cancel()
            raise
        position = begun.get(admin_wire.RESUME_TOKEN_KEY)
        if position is not None:
            self._request.resume_token = str(position)
        return call


def _no_answer() -> AuthError:
    return AuthError(Reason.STORE_UNAVAILABLE, "no answer in time")


def _until(
    before_time: float | None, request: pb.RevokeSessionsRequest
) -> pb.RevokeSessionsRequest:
    if before_time is not None:
        request.before_time.CopyFrom(wire.timestamp(before_time))
    return request
