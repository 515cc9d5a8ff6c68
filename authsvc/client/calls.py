"""One call: attempts at several replicas within one deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from authsvc.client.breaker import Breaker, RetryBudget
from authsvc.client.failures import AttemptError, Failure, located
from authsvc.client.replica import CONNECTED_YET_SECONDS, Replica
from authsvc.client.replicas import Replicas
from authsvc.domain.errors import AuthError, Reason

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

MAX_ATTEMPTS = 4

BACKOFF_SECONDS = 0.05
"""The longest wait before the first repetition; twice as long before each further one. The wait is
random, from nothing on, so that clients that failed together do not come back together."""

PATIENCE = 0.25
"""How much of the time that is left one replica gets while there is another to ask."""


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, AnswerT]):
    """An RPC.

    Attributes:
        attempt: asks one replica, for so many seconds at most; raises ``AttemptError``.
        idempotent: whether a request that may have been carried out may be sent again.
    """

    attempt: Callable[[Replica, RequestT, float], Awaitable[AnswerT]]
    idempotent: bool


class Calls:
    """Makes calls.

    Args:
        replicas: whom to ask.
        breaker: fails calls while there is no point in asking.
        deadline_seconds: how long a call may take, all its attempts and waits together. Each
            attempt tells its server how long it has.
    """

    def __init__(self, replicas: Replicas, breaker: Breaker, *, deadline_seconds: float) -> None:
        self._replicas = replicas
        self._breaker = breaker
        self._budget = RetryBudget()
        self._deadline_seconds = deadline_seconds

    async def make(self, method: Method[RequestT, AnswerT], request: RequestT) -> AnswerT:
        """The answer.

        Raises:
            AuthError: authsvc's own, or STORE_UNAVAILABLE.
        """
        deadline = asyncio.get_running_loop().time() + self._deadline_seconds
        with self._breaker.call():
            answer = await self._attempts(method, request, deadline)
        self._budget.earn()
        return answer

    async def _attempts(
        self, method: Method[RequestT, AnswerT], request: RequestT, deadline: float
    ) -> AnswerT:
        loop = asyncio.get_running_loop()
        tried: list[Replica] = []
        while True:
            replica = self._replicas.best(tried) or await self._awaited(tried, deadline)
            tried.append(replica)
            is_last = len(tried) == MAX_ATTEMPTS
            timeout = deadline - loop.time()
            if method.idempotent and not is_last and self._replicas.has_other(tried):
                timeout *= PATIENCE
            try:
                return await method.attempt(replica, request, timeout)
            except AttemptError as error:
                failure = error.failure
            if failure.timed_out:
                replica.suspect()
            wait = _backoff(len(tried))
            in_time = loop.time() + wait < deadline
            if is_last or not in_time or not self._may_repeat(method.idempotent, failure):
                raise located(failure.error, replica.name)
            await asyncio.sleep(wait)

    async def _awaited(self, tried: Collection[Replica], deadline: float) -> Replica:
        """A replica, once there is one that is connected."""
        try:
            async with asyncio.timeout_at(deadline):
                while not self._replicas.closed:
                    await asyncio.sleep(CONNECTED_YET_SECONDS)
                    if (replica := self._replicas.best(tried)) is not None:
                        return replica
        except TimeoutError:
            pass
        if self._replicas.closed:
            raise AuthError(Reason.STORE_UNAVAILABLE, "authsvc: the client was closed")
        why = self._replicas.why_unconnected()
        raise AuthError(Reason.STORE_UNAVAILABLE, f"authsvc: not connected to {why}")

    def _may_repeat(self, idempotent: bool, failure: Failure) -> bool:
        allowed = failure.left_nothing or (idempotent and failure.may_repeat)
        return allowed and self._budget.spend()


def _backoff(attempts: int) -> float:
    return random.uniform(0.0, BACKOFF_SECONDS * 2 ** (attempts - 1))  # noqa: S311 - jitter
