"""The load: sessions that begin, resolve, refresh tokens, get foreign tokens, and end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from chaos.checks import MEND_SECONDS
from chaos.clients import Balanced
from chaos.history import Call, History
from chaos.identity import NOBODY, Issuer, Token

WORKERS = 24
RETRY_SECONDS = 0.1

MAX_ENDED = 300
"""Ended sessions that are resolved again."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session and its token."""

    session: str
    token: Token


class Load:
    """Calls at a steady rate, by clients that balance.

    Args:
        clients: one of them makes each call.
        issuer: of the tokens.
        history: numbers the tasks.
        calls_per_second: of all workers; slow calls make them fewer.
        seed: of the mix.

    Attributes:
        ended: the last sessions whose end was acknowledged.
    """

    def __init__(
        self,
        clients: Sequence[Balanced],
        issuer: Issuer,
        history: History,
        *,
        calls_per_second: float,
        seed: int,
    ) -> None:
        self.ended: deque[Holder] = deque(maxlen=MAX_ENDED)
        self._clients = clients
        self._issuer = issuer
        self._history = history
        self._interval_seconds = WORKERS / calls_per_second
        self._random = Random(seed)  # noqa: S311 - a mix of calls, no secret
        self._present: dict[int, Holder] = {}
        self._subjects = 0

    @property
    def present(self) -> list[Holder]:
        """The sessions that no call has tried to end."""
        return list(self._present.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Make calls until ``stop`` is set; calls in flight are finished."""
        async with asyncio.TaskGroup() as workers:
            for number in range(WORKERS):
                workers.create_task(self._work(number, stop))

    async def _work(self, number: int, stop: asyncio.Event) -> None:
        acts, weights = zip(*self._mix(), strict=True)
        next_time = time.monotonic() + self._random.random() * self._interval_seconds
        while not stop.is_set():
            await asyncio.sleep(next_time - time.monotonic())
            next_time = max(next_time + self._interval_seconds, time.monotonic())
            holder = self._present.get(number)
            if holder is None:
                await self._begin_session(number)
            else:
                (act,) = self._random.choices(acts, weights)
                await act(number, holder)

    def _mix(self) -> Iterable[tuple[Callable[[int, Holder], Awaitable[None]], int]]:
        """The actions, and their percentages."""
        return (
            (self._call, 70),
            (self._call_without_session, 5),
            (self._call_without_token, 3),
            (self._refresh, 6),
            (self._present_foreign_token, 4),
            (self._end_session, 6),
            (self._use_ended_session, 6),
        )

    async def _begin_session(self, number: int) -> None:
        self._subjects += 1
        token = self._issuer.token(f"load-{self._subjects}")
        if self._subjects % 2:
            call = await self._repeated(lambda client, task: client.create(token, task=task))
        else:
            call = await self._resolve(secrets.token_urlsafe(16), token, create=True)
        if call.is_acknowledged:
            self._present[number] = Holder(call.session, token)

    async def _call(self, _: int, holder: Holder) -> None:
        await self._resolve(holder.session, holder.token)

    async def _call_without_session(self, _: int, holder: Holder) -> None:
        await self._resolve("", holder.token)

    async def _call_without_token(self, _: int, holder: Holder) -> None:
        await self._resolve(holder.session, NOBODY)

    async def _refresh(self, number: int, holder: Holder) -> None:
        token = self._issuer.token(holder.token.subject)
        self._present[number] = Holder(holder.session, token)
        await self._resolve(holder.session, token)

    async def _present_foreign_token(self, _: int, holder: Holder) -> None:
        others = [other for other in self.present if other.session != holder.session]
        if others:
            await self._resolve(holder.session, self._random.choice(others).token)

    async def _end_session(self, number: int, holder: Holder) -> None:
        del self._present[number]
        client = self._random.choice(self._clients)
        call = await self._repeated(lambda _, task: client.revoke(holder.session, task=task))
        if call.is_acknowledged:
            self.ended.append(holder)
            # The client that has ended it has to see the end at once, on every replica.
            await client.resolve(holder.session, holder.token)

    async def _use_ended_session(self, _: int, holder: Holder) -> None:
        left = self._random.choice(self.ended) if self.ended else holder
        await self._resolve(left.session, left.token)

    async def _resolve(self, session: str, token: Token, *, create: bool = False) -> Call:
        return await self._repeated(
            lambda client, task: client.resolve(session, token, create=create, task=task)
        )

    async def _repeated(self, ask: Callable[[Balanced, int], Awaitable[Call]]) -> Call:
        """Make a call, and repeat it for ``MEND_SECONDS`` while it fails."""
        task = self._history.new_task()
        call = await ask(self._random.choice(self._clients), task)
        until = call.end + MEND_SECONDS
        while call.failed and time.monotonic() < until:
            await asyncio.sleep(RETRY_SECONDS)
            call = await ask(self._random.choice(self._clients), task)
        return call
