"""``AuthClient``: a ``Resolver`` whose decisions are made by authsvc."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.empty_pb2 import Empty
from grpc import aio

from authsvc.client.breaker import NO_CREATIONS, Breaker
from authsvc.client.calls import Calls, Method
from authsvc.client.consistency import ConsistencyTokens
from authsvc.client.decoding import Decoder
from authsvc.client.replica import Replica
from authsvc.client.replicas import Replicas
from authsvc.client.retries import RetryBudget, RetryPolicy
from authsvc.client.targets import Endpoint, LookUp, Targets, look_up
from authsvc.client.tls import Certificates, ClientTls, ServiceToken
from authsvc.common import arguments
from authsvc.domain.credential_requests import CredentialRequest, check_selection
from authsvc.domain.rates import RateLimit
from authsvc.domain.resolution import NotOpenError, Resolution
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire
from authsvc.wire import credentials as credentials_wire

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

MAX_ATTEMPTS = 4

CLOSING_SECONDS = 1.0
"""How much longer than its calls an outdated connection lasts: gRPC cancels the calls that remain
when it closes, and a call that its caller did not cancel must not end as cancelled."""

_POLICY = RetryPolicy(per_try_timeout_fraction=0.25, max_attempts=MAX_ATTEMPTS)

_RESOLVE: Method[Replica, bytes, Resolution] = Method(
    lambda replica, request, timeout: replica.resolve(request, timeout), idempotent=True
)
_CREATE: Method[Replica, pb.CreateSessionRequest, tuple[pb.CreateSessionResponse, aio.Call]] = (
    Method(
        lambda replica, request, timeout: replica.ask(
            lambda stub: stub.CreateSession, request, timeout
        ),
        idempotent=False,
    )
)
_REVOKE: Method[Replica, pb.RevokeSessionRequest, tuple[Empty, aio.Call]] = Method(
    lambda replica, request, timeout: replica.ask(
        lambda stub: stub.RevokeSession, request, timeout
    ),
    idempotent=True,
)


class AuthClient:
    """Connections to all replicas of authsvc, shared by all requests of an event loop.

    A call goes to a replica that is connected and healthy. A call that fails or is not answered in
    time is retried at another replica, within its deadline and if that is safe: creating a session
    is retried only if the failed attempt changed nothing. While no replica answers, calls fail at
    their deadline; after five consecutive failures calls fail at once, except one each half second
    that probes. Creations fail at once by themselves while the store takes no writes: other calls
    go on. A call that is cancelled is cancelled at authsvc, too.

    It is used within ``async with``. It may be opened again once it is closed, and several times at
    once, as by two gates that share it: it is closed when the last of them leaves.

    Args:
        target: ``host:port`` or ``unix:/path`` of authsvc; ``dns:///host:port`` for a replica at
            each address of a name, which is looked up every few seconds; or several of them,
            as a sequence or with commas between.
        deadline_seconds: how long one call may take, connecting and retries included.
        streams: whether resolves share one stream to each replica, which costs a busy caller and
            authsvc far less than a call each. A replica without streams is called instead.
        tls: None for a socket of this machine. Its files may change while the client runs: calls
            in flight finish on the old connections, new ones use new connections.
        traceparent: the context of the current trace, as W3C Trace Context spells it; empty
            without one. Called in the context of the caller.
        clock: seconds, of any origin.
        look_up: from a name to its addresses.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the target is invalid, or not on this machine and without ``tls``; or
            ``deadline_seconds`` is not a finite number above 0.
        OSError: a file of ``tls`` cannot be read, or does not hold what it should.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        deadline_seconds: float = 2.0,
        streams: bool = True,
        tls: ClientTls | None = None,
        traceparent: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
        look_up: LookUp = look_up,
    ) -> None:
        arguments.positive_number("deadline_seconds", deadline_seconds)
        if tls is not None:
            arguments.instance_of("tls", tls, ClientTls)
        arguments.instance_of("streams", streams, bool)
        arguments.function("traceparent", traceparent, ())
        arguments.function("clock", clock, ())
        arguments.function("look_up", look_up, ("host", "port"))
        targets = Targets.parse(target)
        if tls is None:
            targets.check_plaintext()
        self._certificates = Certificates(tls)
        self._service_token = ServiceToken(tls.service_token_file if tls else None)
        self._streams = streams
        self._traceparent = traceparent
        self._replicas = Replicas(
            targets,
            look_up=look_up,
            connect=self._connect,
            grace_seconds=deadline_seconds + CLOSING_SECONDS,
        )
        self._breaker = Breaker(str(targets), clock)
        self._creations = Breaker(str(targets), clock, NO_CREATIONS)
        self._calls = Calls(
            self._replicas, _POLICY, deadline_seconds=deadline_seconds, budget=RetryBudget()
        )
        self._tokens = ConsistencyTokens(clock)
        self._decoder = Decoder()
        self._openings = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        """
        Raises:
            RuntimeError: it is open in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._openings and self._loop is not loop:
            raise RuntimeError("AuthClient is open in another event loop: make one for each loop")
        if not self._openings:
            self._loop = loop
            self._known = asyncio.Event()
            self._decoder.open()
            await self._replicas.__aenter__()
        self._openings += 1
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._openings -= 1
        if not self._openings:
            self._decoder.close()
            await self._replicas.__aexit__(exc_type, exc, traceback)

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
        """Decide on one request, by its session and its own token.

        Args:
            session_id: the session that the request names (``Mcp-Session-Id``); empty to ask by the
                token alone.
            token: the bare access token of this very request; empty without one.
            resource: canonical URI of the server that was asked (RFC 8707).
            create: whether an unknown session is created under this id.
            rate_limits: what the request counts towards, beside authsvc's own limits: for each call
                of its message, each of the call's limits once.
            calls: how many calls its message has, for authsvc's own limits by subject and client.
            recheck: whether a request that has been counted is checked again, as while its response
                streams: it counts as nothing.
            credentials: which credentials the answer has, each name once, in
                ``Resolution.named_credentials``; with none of them nothing is issued. None for
                those of the resource without a name, in ``Resolution.credentials``.

        Returns:
            Who makes the request, its session, and the credentials to work with. The principal is
            None for a request without a token.

        Raises:
            AuthError: the token or the session is rejected, or there is no answer; its ``reason``
                says why, and ``HttpError.of`` how to answer.
            NotOpenError: it is not open.
            TypeError: ``credentials`` are of another type.
            ValueError: there are too many of them, or two of one name.
        """
        session = (session_id, "" if session_id else resource)
        request = pb.ResolveSessionRequest(
            session_id=session_id,
            token=token,
            resource=resource,
            create=create,
            consistency_token=self._tokens.of(session),
            rate_limits=wire.rate_limit_messages(rate_limits),
            recheck=recheck,
            calls=calls if calls > 1 else 0,
            credential_selection=_selection(credentials),
        )
        self._renew_connections()
        with self._breaker.call():
            resolution = await self._make(_RESOLVE, request.SerializeToString())
        self._tokens.keep(session, resolution.consistency_token)
        return resolution

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """Create a session under a new id.

        Args:
            token: the bare access token of the request; empty without one.
            resource: canonical URI of the server that was asked.
            rate_limits: as of ``resolve``.
            credentials: as of ``resolve``.

        Returns:
            As of ``resolve``; ``session.id`` is the new id.

        Raises:
            AuthError: as of ``resolve``, as are the others.
            NotOpenError: it is not open.
            TypeError: ``credentials`` are of another type.
            ValueError: there are too many of them, or two of one name.
        """
        request = pb.CreateSessionRequest(
            token=token,
            resource=resource,
            rate_limits=wire.rate_limit_messages(rate_limits),
            credential_selection=_selection(credentials),
        )
        self._renew_connections()
        with self._breaker.other_call(), self._creations.call():
            answer, _ = await self._make(_CREATE, request)
        self._tokens.keep((answer.session.id, ""), answer.consistency_token)
        return wire.resolution_of(answer)

    async def revoke(self, session_id: str) -> None:
        """End a session, for every resource. One that is unknown or has ended is no error.

        Args:
            session_id: the session.

        Raises:
            AuthError: it may not be ended by this caller, or there is no answer.
            NotOpenError: it is not open.
        """
        request = pb.RevokeSessionRequest(session_id=session_id)
        self._renew_connections()
        with self._breaker.other_call():
            _, rpc = await self._make(_REVOKE, request)
        written = (await rpc.trailing_metadata()).get(wire.CONSISTENCY_TOKEN_KEY, "")
        self._tokens.keep((session_id, ""), str(written), ends=True)

    async def _make(
        self, method: Method[Replica, RequestT, ResponseT], request: RequestT
    ) -> ResponseT:
        if not self._openings:
            raise NotOpenError("AuthClient is used within `async with`")
        answer = await self._calls.make(method, request)
        self._known.set()
        return answer

    def _renew_connections(self) -> None:
        """Reconnect if files of ``tls`` have changed.

        Each call does, also one that then fails at once: a call that probes waits for a connection,
        which the old certificates may not get.
        """
        if self._openings and self._certificates.renew():
            self._replicas.renew()

    def _connect(self, endpoint: Endpoint) -> Replica:
        return Replica(
            endpoint,
            self._certificates.credentials,
            context=self._certificates.context,
            metadata=self._service_token.metadata,
            known=self._known,
            decode=self._decoder.resolution_of,
            streams=self._streams,
            traceparent=self._traceparent,
        )


def _selection(credentials: Sequence[CredentialRequest] | None) -> pb.CredentialSelection | None:
    """
    Raises:
        TypeError: they are of another type.
        ValueError: there are too many, or two of one name.
    """
    return credentials_wire.selection_message(
        None if credentials is None else check_selection(credentials)
    )
