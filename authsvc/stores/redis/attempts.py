"""Attempts of the client: it repeats a command whose connection broke, and does not say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from redis.asyncio.retry import Retry

from authsvc.stores.redis.failures import FAILURES, may_be_done

ResultT = TypeVar("ResultT")

lost_answer: ContextVar[bool] = ContextVar("lost_answer", default=False)
"""Whether the answer to an attempt of the command was lost: the server may have done it. Each
command runs in a context of its own."""


class NotedRetry(Retry):
    """A ``Retry`` that notes lost answers."""

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[ResultT]],
        *arguments: Any,  # noqa: ANN401 - as the client has them
        **options: Any,  # noqa: ANN401 - likewise
    ) -> ResultT:
        """See ``Retry``."""

        async def noted() -> ResultT:
            try:
                return await do()
            except FAILURES as error:
                if may_be_done(error, in_cluster=False):
                    lost_answer.set(True)
                raise

        return await super().call_with_retry(noted, *arguments, **options)
