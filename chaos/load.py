"""The load: people who come, call, refresh their tokens, try what is not theirs, and leave."""

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

REMEMBERED = 300
"""Ended sessions that are asked about again."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with a session and a token."""

    session: str
    token: Token


class Load:
    """Calls at a steady rate, by clients that balance.

    Args:
        clients: take turns.
        issuer: of the tokens.
        history: numbers what is repeated.
        calls_per_second: of all; a worker whose call is slow makes fewer.
        seed: of the mix.

    Attributes:
        ended: whose sessions have been ended, acknowledged; the last ones.
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
        self.ended: deque[Holder] = deque(maxlen=REMEMBERED)
        self._clients = clients
        self._issuer = issuer
        self._history = history
        self._interval_seconds = WORKERS / calls_per_second
        self._random = Random(seed)  # noqa: S311 - a mix of calls, no secret
        self._present: dict[int, Holder] = {}
        self._people = 0

    @property
    def present(self) -> list[Holder]:
        """Who has a session that nobody has tried to end."""
        return list(self._present.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until told to stop; calls under way are finished."""
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
                await self._come(number)
            else:
                (act,) = self._random.choices(acts, weights)
                await act(number, holder)

    def _mix(self) -> Iterable[tuple[Callable[[int, Holder], Awaitable[None]], int]]:
        """What is done next, and how often in a hundred times."""
        return (
            (self._call, 70),
            (self._call_without_session, 5),
            (self._call_without_token, 3),
            (self._refresh, 6),
            (self._rob, 4),
            (self._leave, 6),
            (self._come_back, 6),
        )

    async def _come(self, number: int) -> None:
        self._people += 1
        token = self._issuer.token(f"load-{self._people}")
        if self._people % 2:
            call = await self._mended(lambda client, task: client.create(token, task=task))
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

    async def _rob(self, _: int, holder: Holder) -> None:
        others = [other for other in self.present if other.session != holder.session]
        if others:
            await self._resolve(holder.session, self._random.choice(others).token)

    async def _leave(self, number: int, holder: Holder) -> None:
        del self._present[number]
        client = self._random.choice(self._clients)
        call = await self._mended(lambda _, task: client.revoke(holder.session, task=task))
        if call.is_acknowledged:
            self.ended.append(holder)
            # Whoever has ended it is the first who has to see it, on whichever replica.
            await client.resolve(holder.session, holder.token)

    async def _come_back(self, _: int, holder: Holder) -> None:
        left = self._random.choice(self.ended) if self.ended else holder
        await self._resolve(left.session, left.token)

    async def _resolve(self, session: str, token: Token, *, create: bool = False) -> Call:
        return await self._mended(
            lambda client, task: client.resolve(session, token, create=create, task=task)
        )

    async def _mended(self, ask: Callable[[Balanced, int], Awaitable[Call]]) -> Call:
        """Ask, and ask again for a while if that fails."""
        task = self._history.new_task()
        call = await ask(self._random.choice(self._clients), task)
        until = call.end + MEND_SECONDS
        while call.failed and time.monotonic() < until:
            await asyncio.sleep(RETRY_SECONDS)
            call = await ask(self._random.choice(self._clients), task)
        return call
