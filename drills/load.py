"""The load: MCP clients with sessions, which call a tool, refresh their tokens and begin anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import Any

import httpx2

from chaos.identity import RESOURCE, Issuer, Token
from drills.errors import DrillError
from drills.tally import Call

WORKERS = 16
CALLS_PER_SECOND = 60.0
CALL_SECONDS = 10.0
"""Time-out of a client's call; authsvc has 2 s of it."""

KNOWN, CREATE, REFRESH = "known", "create", "refresh"

HOST = RESOURCE.split("/")[2]

_MIX = {KNOWN: 80, CREATE: 10, REFRESH: 10}
_TOKEN_ENDED = frozenset({"TOKEN_REVOKED", "TOKEN_EXPIRED"})
"""After these a client gets a new token and repeats its call, as it has to."""

_INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "drill", "version": "1"},
}


@dataclass(slots=True)
class Client:
    """An MCP client with a session.

    Attributes:
        subject: whose it is.
        token: its current one.
        session: its id; empty before ``initialize``.
        accepted: the last token that was: with another one, a call is a refresh.
    """

    subject: str
    token: Token
    session: str = ""
    accepted: Token | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        failure: as of ``Call``.
        reason: authsvc's; empty without.
        session: the id of the session that ``initialize`` began.
    """

    failure: str = ""
    reason: str = ""
    session: str = ""


class Load:
    """Calls at a steady rate, which go round among the adapters.

    Args:
        urls: of the adapters' endpoints now; an adapter that has stopped is not among them.
        issuer: of the tokens.
        http: makes the calls.
        count: takes each call.
    """

    def __init__(
        self,
        urls: Callable[[], list[str]],
        issuer: Issuer,
        http: httpx2.AsyncClient,
        count: Callable[[Call], None],
    ) -> None:
        self.clients: dict[int, Client] = {}
        self._urls = urls
        self._issuer = issuer
        self._http = http
        self._count = count
        self._random = Random(1)  # noqa: S311 - a mix of calls, no secret
        self._begun = 0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Run during the block. Calls in flight are finished at its end."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as workers:
            for number in range(WORKERS):
                workers.create_task(self._work(number, stop))
            try:
                yield
            finally:
                stop.set()

    async def call(self, client: Client, *, url: str = "") -> Answer:
        """Call a tool."""
        return await self._post(client, "tools/call", {"name": "whoami", "arguments": {}}, url=url)

    async def begin(self, subject: str, *, url: str = "", resource: str = "") -> Client:
        """A client that has begun a session, not counted.

        Raises:
            DrillError: it was rejected.
        """
        about = {"resource": resource} if resource else {}
        client = Client(subject, self._issuer.token(subject, **about))
        answer = await self._post(client, "initialize", _INITIALIZE, url=url)
        if answer.failure:
            raise DrillError(f"a session cannot begin: {answer.failure}")
        client.session = answer.session
        return client

    async def attempt(self, subject: str) -> bool:
        """Whether a session begins, not counted."""
        client = Client(subject, self._issuer.token(subject))
        return not (await self._initialize(client)).failure

    def refresh(self, client: Client) -> None:
        """Give a client a new token."""
        client.token = self._issuer.token(client.subject)

    async def _work(self, number: int, stop: asyncio.Event) -> None:
        kinds, weights = list(_MIX), list(_MIX.values())
        interval_seconds = WORKERS / CALLS_PER_SECOND
        next_time = time.monotonic() + self._random.random() * interval_seconds
        while not stop.is_set():
            await asyncio.sleep(next_time - time.monotonic())
            next_time = max(next_time + interval_seconds, time.monotonic())
            (kind,) = self._random.choices(kinds, weights)
            client = self.clients.get(number)
            if client is None:
                kind = CREATE
            elif kind == KNOWN and client.token is not client.accepted:
                # Its new token was not recorded yet: that takes a write.
                kind = REFRESH
            start = time.monotonic()
            answer = await self._act(number, kind)
            self._count(Call(kind, start, time.monotonic(), answer.failure))

    async def _act(self, number: int, kind: str) -> Answer:
        if kind == CREATE:
            return await self._create(number)
        client = self.clients[number]
        if kind == REFRESH and client.token is client.accepted:
            self.refresh(client)
        answer = await self._with_new_token(client, self.call)
        if not answer.failure:
            client.accepted = client.token
        if answer.failure.startswith(str(HTTPStatus.NOT_FOUND.value)):
            del self.clients[number]
        return answer

    async def _create(self, number: int) -> Answer:
        self._begun += 1
        subject = f"person-{self._begun}"
        client = Client(subject, self._issuer.token(subject))
        answer = await self._with_new_token(client, self._initialize)
        if not answer.failure:
            client.session, client.accepted = answer.session, client.token
            self.clients[number] = client
        return answer

    async def _initialize(self, client: Client) -> Answer:
        return await self._post(client, "initialize", _INITIALIZE)

    async def _with_new_token(
        self, client: Client, call: Callable[[Client], Awaitable[Answer]]
    ) -> Answer:
        """A call, repeated with a new token if that is what the answer asks for."""
        answer = await call(client)
        if answer.reason not in _TOKEN_ENDED:
            return answer
        self.refresh(client)
        return await call(client)

    async def _post(
        self, client: Client, method: str, params: dict[str, Any], *, url: str = ""
    ) -> Answer:
        headers = {
            # As a reverse proxy passes it on.
            "Host": HOST,
            "Authorization": f"Bearer {client.token.text}",
            "Accept": "application/json, text/event-stream",
            **({"Mcp-Session-Id": client.session} if client.session else {}),
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        urls = [url] if url else self._urls()
        if not urls:
            return Answer("no adapter")
        try:
            answer = await self._http.post(self._random.choice(urls), json=body, headers=headers)
        except httpx2.TransportError as error:
            return Answer(type(error).__name__)
        reason = _reason(answer)
        failure = f"{answer.status_code} {reason}".strip() if _failed(answer) else ""
        session = answer.headers.get("Mcp-Session-Id", "")
        return Answer(failure, reason, session)


def _failed(answer: httpx2.Response) -> bool:
    return answer.status_code != HTTPStatus.OK or '"error"' in answer.text[:200]


def _reason(answer: httpx2.Response) -> str:
    if answer.status_code == HTTPStatus.OK:
        return ""
    try:
        return str(answer.json()["error"]["data"]["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx2.AsyncClient]:
    """What makes the calls of MCP clients."""
    async with httpx2.AsyncClient(timeout=CALL_SECONDS, trust_env=False) as http:
        yield http
