"""One call: attempts at several replicas within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from authsvc.client.failures import AttemptError, Failure, located
from authsvc.client.retries import RetryBudget, RetryPolicy
from authsvc.domain.errors import AuthError

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Target(Protocol):
    """A replica that an attempt is made at."""

    @property
    def name(self) -> str:
        """Its name in logs and errors."""
        ...

    def mark_unresponsive(self) -> None:
        """It has not answered in time."""
        ...


TargetT = TypeVar("TargetT", bound=Target)


class Pool(Protocol[TargetT]):
    """The replicas that a client chooses from."""

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        ...

    def best(self, tried: Collection[TargetT]) -> TargetT | None:
        """The one to call next, after those that were tried; None while there is none."""
        ...

    async def next_connected(self, tried: Collection[TargetT], deadline: float) -> TargetT:
        """As ``best``, once there is one.

        Raises:
            AuthError: SERVICE_UNAVAILABLE: there is none by the deadline, or the client was closed.
        """
        ...

    def has_other(self, tried: Collection[TargetT]) -> bool:
        """Whether there is a healthy one besides those that were tried."""
        ...


@dataclass(frozen=True, slots=True)
class Method(Generic[TargetT, RequestT, ResponseT]):
    """An RPC.

    Attributes:
        attempt: calls one replica, with a timeout in seconds; raises ``AttemptError``.
        idempotent: whether a request that may have been executed may be sent again.
    """

    attempt: Callable[[TargetT, RequestT, float], Awaitable[ResponseT]]
    idempotent: bool


class Calls(Generic[TargetT]):
    """Makes calls: retries an attempt that failed, where that is safe, until the deadline.

    Args:
        pool: the replicas to call.
        policy: how attempts share the deadline.
        deadline_seconds: how long a call may take, with all its attempts and waits. Each attempt
            sends its server the time that it has.
        budget: bounds the retries of all calls; None for no bound.
    """

    def __init__(
        self,
        pool: Pool[TargetT],
        policy: RetryPolicy,
        *,
        deadline_seconds: float,
        budget: RetryBudget | None = None,
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._deadline_seconds = deadline_seconds
        self._budget = budget

    async def make(
        self,
        method: Method[TargetT, RequestT, ResponseT],
        request: RequestT,
        *,
        total_seconds: float | None = None,
        policy: RetryPolicy | None = None,
    ) -> ResponseT:
        """The answer.

        Args:
            method: the RPC.
            request: its request.
            total_seconds: how long all attempts may take together; None for the client's deadline,
                which still bounds each of them.
            policy: how its attempts share that time; None for the client's.

        Raises:
            AuthError: authsvc's own, or SERVICE_UNAVAILABLE.
        """
        loop, policy = asyncio.get_running_loop(), policy or self._policy
        deadline = loop.time() + (total_seconds or self._deadline_seconds)
        tried: list[TargetT] = []
        attempts = 0
        why: AuthError | None = None
        while True:
            target = self._pool.best(tried) or await self._pool.next_connected(tried, deadline)
            attempts += 1
            if target not in tried:
                tried.append(target)
            is_last = attempts == policy.max_attempts
            timeout = min(deadline - loop.time(), self._deadline_seconds)
            if method.idempotent and not is_last and self._pool.has_other(tried):
                timeout *= policy.per_try_timeout_fraction
            try:
                answer = await method.attempt(target, request, timeout)
            except AttemptError as error:
                failure = error.failure
            else:
                if self._budget is not None:
                    self._budget.earn()
                return answer
            if failure.timed_out:
                target.mark_unresponsive()
            # A timeout says less about the cause than a failure before it.
            if why is None or not failure.timed_out:
                why = located(failure.error, target.name)
            wait = policy.backoff_seconds(attempts)
            in_time = loop.time() + wait < deadline
            if is_last or not in_time or not self._may_repeat(failure, method.idempotent):
                raise why
            await asyncio.sleep(wait)

    def _may_repeat(self, failure: Failure, idempotent: bool) -> bool:
        if self._pool.closed:
            return False
        allowed = failure.safe_to_retry or (idempotent and failure.may_repeat)
        return allowed and (self._budget is None or self._budget.spend())
