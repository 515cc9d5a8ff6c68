"""The probe: ends sessions that all replicas have cached, and asks each until it rejects them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random

from chaos.clients import Balanced, Caller, Direct, Sender
from chaos.history import Call, History
from chaos.identity import Issuer, Token
from chaos.load import Holder

STOCK = 40
"""Cached sessions that are still to be ended: more than are ended during any fault, so that each
was in every replica's cache before the fault."""

PREPARE_SECONDS = 120.0
REVOCATIONS_PER_SECOND = 5.0

FIRST_CONTACT_SECONDS = 0.5
"""How long replicas have to cache a session. One that is unavailable does not delay the others."""

SHARE_OF_NOT_BEFORES = 0.2
SHARE_OF_SIGNALS = 0.3
"""The rest are revocations of single sessions."""

REPEAT_SECONDS = 0.2
REPEATED_SECONDS = 30.0
"""How long a sender repeats a signal that is not acknowledged."""

ASK_AGAIN_SECONDS = 0.001
AFTER_FAILURE_SECONDS = 0.05
GIVE_UP_SECONDS = 4.0
AUDIT_SECONDS = 5.0
AUDITORS = 8

_REJECTED = ("SESSION_REVOKED", "TOKEN_REVOKED")


class Probe:
    """Ends sessions and subjects' tokens at a steady rate.

    Args:
        client: balances, and ends the sessions.
        replicas: clients of one replica each; a random one sets a not-before.
        senders: of signals to one replica each; a random one sends each repeat.
        issuer: of the tokens and signals.
        history: numbers the signals.
        seed: of the order.
        signals_per_second: None for a mix of all kinds at ``REVOCATIONS_PER_SECOND``.
    """

    def __init__(
        self,
        client: Balanced,
        replicas: Sequence[Direct],
        senders: Sequence[Sender],
        issuer: Issuer,
        history: History,
        *,
        seed: int,
        signals_per_second: float | None = None,
    ) -> None:
        self._client = client
        self._replicas = replicas
        self._senders = senders
        self._history = history
        self._share_of_signals = SHARE_OF_SIGNALS if signals_per_second is None else 1.0
        self._per_second = signals_per_second or REVOCATIONS_PER_SECOND
        self._issuer = issuer
        self._random = Random(seed)  # noqa: S311 - an order of calls, no secret
        self._stock: deque[Holder] = deque()
        self._ended: list[Holder] = []
        self._subjects = 0

    async def prepare(self) -> None:
        """Fill the stock.

        Raises:
            TimeoutError: the service does not create the sessions in time.
        """
        async with asyncio.timeout(PREPARE_SECONDS):
            while len(self._stock) < STOCK:
                await self._add()

    async def run(self, stop: asyncio.Event) -> None:
        """End sessions until ``stop`` is set; measurements that have begun are finished."""
        next_time = time.monotonic()
        async with asyncio.TaskGroup() as asking:
            while not stop.is_set():
                await asyncio.sleep(next_time - time.monotonic())
                next_time = max(next_time + 1 / self._per_second, time.monotonic())
                asking.create_task(self._add())
                if self._stock:
                    asking.create_task(self._end(self._stock.popleft()))

    async def audit(self, ended: Iterable[Holder], present: Iterable[Holder]) -> int:
        """Resolve each ended session on every replica, and each other one on a random replica.

        The checks decide whether the answers are right.

        Returns:
            The number of resolves that failed.
        """
        questions = [
            (replica, holder) for holder in (*self._ended, *ended) for replica in self._replicas
        ]
        questions += [
            (self._random.choice(self._replicas), holder) for holder in (*self._stock, *present)
        ]
        waiting = deque(questions)
        answers: list[Call] = []

        async def work() -> None:
            while waiting:
                replica, holder = waiting.popleft()
                answers.append(await _ask_until_answered(replica, holder))

        async with asyncio.TaskGroup() as auditors:
            for _ in range(AUDITORS):
                auditors.create_task(work())
        return sum(answer.failed for answer in answers)

    async def _add(self) -> None:
        self._subjects += 1
        token = self._issuer.token(f"probe-{self._subjects}")
        holder = Holder(secrets.token_urlsafe(16), token)
        created = await self._client.resolve(holder.session, token, create=True)
        if not created.is_acknowledged:
            return
        learning = [
            asyncio.create_task(replica.resolve(holder.session, token))
            for replica in self._replicas
        ]
        # A call that takes longer is recorded when it ends.
        await asyncio.wait(learning, timeout=FIRST_CONTACT_SECONDS)
        self._stock.append(holder)
        await asyncio.gather(*learning)

    async def _end(self, holder: Holder) -> None:
        signal, kind = "", self._random.random()
        if kind < self._share_of_signals:
            signal = self._issuer.signal(holder.token.subject)
            call = await self._send(signal, holder.token)
        elif kind < self._share_of_signals + SHARE_OF_NOT_BEFORES:
            call = await self._random.choice(self._replicas).set_not_before(holder.token)
        else:
            call = await self._client.revoke(holder.session)
        if not call.is_acknowledged:
            return
        self._ended.append(holder)
        await self._ask_all(holder, call)
        if signal:
            await self._log_in_again(signal, holder)

    async def _ask_all(self, holder: Holder, call: Call) -> None:
        async with asyncio.TaskGroup() as asking:
            for replica in self._replicas:
                asking.create_task(_ask_until_rejected(replica, holder, call.end))

    async def _send(self, signal: str, token: Token) -> Call:
        """Send a signal, as a sender does: until it is acknowledged or rejected."""
        task = self._history.new_task()
        until = time.monotonic() + REPEATED_SECONDS
        while True:
            call = await self._random.choice(self._senders).send(signal, token, task=task)
            if not call.failed or time.monotonic() > until:
                return call
            await asyncio.sleep(REPEAT_SECONDS)

    async def _log_in_again(self, signal: str, holder: Holder) -> None:
        """A later token of the subject stays valid when the same signal is sent once more: the
        checks find one that is rejected."""
        later = self._issuer.token(holder.token.subject)
        await self._send(signal, holder.token)
        for replica in self._replicas:
            await replica.resolve(holder.session, later)


async def _ask_until_rejected(replica: Caller, holder: Holder, acknowledged: float) -> None:
    while time.monotonic() < acknowledged + GIVE_UP_SECONDS:
        call = await replica.resolve(holder.session, holder.token)
        if call.reason in _REJECTED:
            return
        await asyncio.sleep(AFTER_FAILURE_SECONDS if call.failed else ASK_AGAIN_SECONDS)


async def _ask_until_answered(replica: Caller, holder: Holder) -> Call:
    until = time.monotonic() + AUDIT_SECONDS
    while True:
        call = await replica.resolve(holder.session, holder.token)
        if not call.failed or time.monotonic() > until:
            return call
        await asyncio.sleep(AFTER_FAILURE_SECONDS)
