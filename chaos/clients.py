"""Clients of the run: one that balances over all replicas, and one of a single replica.

Both record each call in the history, with its result.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, TypeVar

import httpx2
from grpc import aio

from authsvc.client import AuthClient, ClientTls
from authsvc.client.failures import failure_of
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Resolution
from authsvc.net.channels import open_channel
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from chaos.history import LOAD, Act, Call, History
from chaos.identity import ISSUER, RESOURCE, Token

ResponseT = TypeVar("ResponseT")

DEADLINE_SECONDS = 2.0
"""Deadline of a client that balances: the default of ``AuthClient``."""

DIRECT_DEADLINE_SECONDS = 12.0
"""Deadline of a client of one replica: longer than any pause, so that a paused replica answers its
calls once it is resumed."""


_SIGNAL_HEADERS = {"Content-Type": "application/secevent+jwt"}
_REPEATED = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Answers after which a signal is to be sent again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The identity and the session of an answer."""

    subject: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """The content of a call; see ``Call``."""

    act: Act
    session: str = ""
    subject: str = ""
    token: int = 0
    task: int = 0


class Caller(Protocol):
    """Makes calls and records them."""

    async def resolve(
        self, session: str, token: Token, *, create: bool = False, task: int = 0
    ) -> Call:
        """Resolve a token on a session."""
        ...


class Balanced:
    """An MCP server's client.

    Args:
        name: for the history.
        client: over all replicas.
        history: records the calls.
    """

    def __init__(self, name: str, client: AuthClient, history: History) -> None:
        self.name = name
        self._client = client
        self._history = history

    async def resolve(
        self, session: str, token: Token, *, create: bool = False, task: int = 0
    ) -> Call:
        """See ``Caller``."""
        act = Act.CREATE if create else Act.RESOLVE
        work = self._client.resolve(session, token.text, resource=RESOURCE, create=create)
        asked = Question(act, session, token.subject, token.number, task)
        return await self._record(asked, _answer_of(work))

    async def create(self, token: Token, *, task: int = 0) -> Call:
        """Create a session with an id of authsvc's. Not idempotent."""
        work = self._client.create(token.text, resource=RESOURCE)
        asked = Question(Act.CREATE, "", token.subject, token.number, task)
        return await self._record(asked, _answer_of(work))

    async def revoke(self, session: str, *, task: int = 0) -> Call:
        """End a session."""
        asked = Question(Act.REVOKE, session, task=task)
        return await self._record(asked, _without_identity(self._client.revoke(session)))

    async def _record(self, asked: Question, work: Awaitable[Answer]) -> Call:
        return await _recorded(self._history, self.name, DEADLINE_SECONDS, asked, work)


class Direct:
    """A client of one replica, without retries and without consistency tokens.

    Args:
        name: of the replica.
        channel: to it.
        metadata: service tokens of ``load`` and of ``operator``.
        history: records the calls.
    """

    def __init__(
        self, name: str, channel: aio.Channel, metadata: dict[str, str], history: History
    ) -> None:
        self.name = name
        self._sessions: pb_grpc.AuthServiceAsyncStub = pb_grpc.AuthServiceStub(channel)
        self._admin: pb_grpc.SessionAdminServiceAsyncStub = pb_grpc.SessionAdminServiceStub(channel)
        self._metadata = {
            caller: (("authorization", f"Bearer {token}"),) for caller, token in metadata.items()
        }
        self._history = history

    async def resolve(
        self, session: str, token: Token, *, create: bool = False, task: int = 0
    ) -> Call:
        """See ``Caller``."""
        request = pb.ResolveSessionRequest(
            session_id=session, token=token.text, resource=RESOURCE, create=create
        )
        rpc = self._sessions.ResolveSession(
            request, timeout=DIRECT_DEADLINE_SECONDS, metadata=self._metadata["load"]
        )

        async def answer() -> Answer:
            return Answer((await _response(rpc)).principal.subject)

        act = Act.CREATE if create else Act.RESOLVE
        asked = Question(act, session, token.subject, token.number, task)
        return await self._record(asked, answer())

    async def set_not_before(self, token: Token, *, task: int = 0) -> Call:
        """Revoke all tokens of a subject, of which this one is the last."""
        target = pb.RevokeSessionsRequest.SubjectTarget(issuer=ISSUER, subject=token.subject)
        rpc = self._admin.RevokeSessions(
            pb.RevokeSessionsRequest(subject=target),
            timeout=DIRECT_DEADLINE_SECONDS,
            metadata=self._metadata["operator"],
        )
        asked = Question(Act.NOT_BEFORE, "", token.subject, token.number, task)
        return await self._record(asked, _without_identity(_response(rpc)))

    async def _record(self, asked: Question, work: Awaitable[Answer]) -> Call:
        return await _recorded(self._history, self.name, DIRECT_DEADLINE_SECONDS, asked, work)


class Sender:
    """An identity provider, which sends its signals to one replica.

    Args:
        name: of the replica.
        url: where it receives them.
        http: sends them.
        history: records the calls.
    """

    def __init__(self, name: str, url: str, http: httpx2.AsyncClient, history: History) -> None:
        self._name = name
        self._url = url
        self._http = http
        self._history = history

    async def send(self, signal: str, token: Token, *, task: int) -> Call:
        """Send a signal about a token's subject, of which this one is the last.

        Args:
            signal: the SET; each repeat is the same one.
            token: the token.
            task: of all repeats.
        """
        asked = Question(Act.SIGNAL, "", token.subject, token.number, task)
        return await _recorded(
            self._history, self._name, DIRECT_DEADLINE_SECONDS, asked, self._acknowledged(signal)
        )

    async def _acknowledged(self, signal: str) -> Answer:
        try:
            answer = await self._http.post(self._url, content=signal, headers=_SIGNAL_HEADERS)
        except httpx2.TransportError:
            raise AuthError(Reason.SERVICE_UNAVAILABLE) from None
        if answer.status_code in _REPEATED:
            raise AuthError(Reason.STORE_UNAVAILABLE)
        if answer.status_code != HTTPStatus.ACCEPTED:
            raise AuthError(Reason.TOKEN_MALFORMED, answer.text)
        return Answer()


@asynccontextmanager
async def sending(
    replicas: Mapping[str, str], history: History
) -> AsyncIterator[tuple[Sender, ...]]:
    """A sender to each replica, by its name and its URL."""
    async with httpx2.AsyncClient(timeout=DIRECT_DEADLINE_SECONDS, trust_env=False) as http:
        yield tuple(Sender(name, url, http, history) for name, url in replicas.items())


@asynccontextmanager
async def balanced(
    number: int, addresses: Sequence[str], tls: ClientTls, history: History
) -> AsyncIterator[Balanced]:
    """One of several MCP servers' clients of all replicas."""
    async with AuthClient(addresses, tls=tls, deadline_seconds=DEADLINE_SECONDS) as client:
        yield Balanced(f"{LOAD}-{number}", client, history)


@asynccontextmanager
async def direct(
    name: str, address: str, tls: dict[str, ClientTls], history: History
) -> AsyncIterator[Direct]:
    """A client of one replica, as the callers in ``tls``."""
    options = (
        # Reconnect at once to a replica that has restarted.
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),
    )
    tokens = {
        caller: how.service_token_file.read_text(encoding="ascii").strip()
        for caller, how in tls.items()
        if how.service_token_file is not None
    }
    credentials = tls["load"].channel_credentials()
    async with open_channel(address, credentials, options) as channel:
        yield Direct(name, channel, tokens, history)


async def _recorded(
    history: History, via: str, deadline_seconds: float, asked: Question, work: Awaitable[Answer]
) -> Call:
    start = time.monotonic()
    answer, reason = Answer(), ""
    try:
        answer = await work
    except AuthError as error:
        reason = error.reason.name
    call = Call(
        asked.act,
        via,
        start,
        time.monotonic(),
        deadline_seconds,
        session=asked.session or answer.session,
        subject=asked.subject,
        token=asked.token,
        answered=answer.subject,
        reason=reason,
        task=asked.task or history.new_task(),
    )
    history.calls.append(call)
    return call


async def _answer_of(work: Awaitable[Resolution]) -> Answer:
    resolution = await work
    subject = resolution.principal.subject if resolution.principal else ""
    return Answer(subject, resolution.session.id if resolution.session else "")


async def _without_identity(work: Awaitable[object]) -> Answer:
    await work
    return Answer()


async def _response(rpc: Awaitable[ResponseT]) -> ResponseT:
    try:
        return await rpc
    except aio.AioRpcError as error:
        raise failure_of(error).error from None
