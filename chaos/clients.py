"""Clients of the run: one that balances over all replicas, and one that asks a single replica.

Both write each call into the history, whatever becomes of it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from grpc import aio

from authsvc.client import AuthClient, ClientTls
from authsvc.client.failures import failure_of
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Resolution
from authsvc.net.channels import open_channel
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from chaos.history import LOAD, Act, Call, History
from chaos.identity import ISSUER, RESOURCE, Token

ResponseT = TypeVar("ResponseT")

DEADLINE_SECONDS = 2.0
"""Of a client that balances; the default of ``AuthClient``."""

PATIENCE_SECONDS = 12.0
"""Of a client that asks one replica: longer than any pause, so that what a paused replica had been
asked is answered when it goes on."""


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer says: whose it is, and on which session."""

    subject: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call is about; see ``Call``."""

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
        """Who the token's holder is, on that session."""
        ...


class Balanced:
    """An MCP server's client.

    Args:
        name: for the history.
        client: over all replicas.
        history: where calls are written down.
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
        asked = Asked(act, session, token.subject, token.number, task)
        return await self._record(asked, _said(work))

    async def create(self, token: Token, *, task: int = 0) -> Call:
        """A session under an id that authsvc makes up. Not idempotent."""
        work = self._client.create(token.text, resource=RESOURCE)
        asked = Asked(Act.CREATE, "", token.subject, token.number, task)
        return await self._record(asked, _said(work))

    async def revoke(self, session: str, *, task: int = 0) -> Call:
        """End a session."""
        asked = Asked(Act.REVOKE, session, task=task)
        return await self._record(asked, _nobody(self._client.revoke(session)))

    async def _record(self, asked: Asked, work: Awaitable[Said]) -> Call:
        return await _recorded(self._history, self.name, DEADLINE_SECONDS, asked, work)


class Direct:
    """Asks one replica, without a second try, and remembers nothing between calls.

    Args:
        name: of the replica.
        channel: to it.
        metadata: of ``load`` and of ``operator``: what proves who calls.
        history: where calls are written down.
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
            request, timeout=PATIENCE_SECONDS, metadata=self._metadata["load"]
        )

        async def said() -> Said:
            return Said((await _answer(rpc)).principal.subject)

        act = Act.CREATE if create else Act.RESOLVE
        asked = Asked(act, session, token.subject, token.number, task)
        return await self._record(asked, said())

    async def set_not_before(self, token: Token, *, task: int = 0) -> Call:
        """End all tokens of a subject, of which this one is the last."""
        target = pb.RevokeSessionsRequest.SubjectTarget(issuer=ISSUER, subject=token.subject)
        rpc = self._admin.RevokeSessions(
            pb.RevokeSessionsRequest(subject=target),
            timeout=PATIENCE_SECONDS,
            metadata=self._metadata["operator"],
        )
        asked = Asked(Act.NOT_BEFORE, "", token.subject, token.number, task)
        return await self._record(asked, _nobody(_answer(rpc)))

    async def _record(self, asked: Asked, work: Awaitable[Said]) -> Call:
        return await _recorded(self._history, self.name, PATIENCE_SECONDS, asked, work)


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
        # A replica that comes back is to be asked at once.
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
    history: History, via: str, deadline_seconds: float, asked: Asked, work: Awaitable[Said]
) -> Call:
    start = time.monotonic()
    said, reason = Said(), ""
    try:
        said = await work
    except AuthError as error:
        reason = error.reason.name
    call = Call(
        asked.act,
        via,
        start,
        time.monotonic(),
        deadline_seconds,
        session=asked.session or said.session,
        subject=asked.subject,
        token=asked.token,
        answered=said.subject,
        reason=reason,
        task=asked.task or history.new_task(),
    )
    history.calls.append(call)
    return call


async def _said(work: Awaitable[Resolution]) -> Said:
    resolution = await work
    subject = resolution.principal.subject if resolution.principal else ""
    return Said(subject, resolution.session.id if resolution.session else "")


async def _nobody(work: Awaitable[object]) -> Said:
    await work
    return Said()


async def _answer(rpc: Awaitable[ResponseT]) -> ResponseT:
    try:
        return await rpc
    except aio.AioRpcError as error:
        raise failure_of(error).error from None
