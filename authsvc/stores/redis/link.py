"""Commands and scripts on the server, each with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, TypeVar, cast

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as ClosingTimeoutError

from authsvc.domain.errors import AuthError
from authsvc.stores.redis.attempts import lost_answer
from authsvc.stores.redis.clients import client_of
from authsvc.stores.redis.failures import FAILURES, described, may_be_done, unavailable
from authsvc.stores.redis.replication import ReplicatedWrites
from authsvc.stores.redis.scripts import Argument, Script
from authsvc.stores.redis.server import RedisServer
from authsvc.stores.redis.tasks import end

MAX_IN_FLIGHT = 64
"""Commands in flight, and so connections; further ones wait."""

ResultT = TypeVar("ResultT")


class Link:
    """Commands on one server. Raises ``AuthError`` STORE_UNAVAILABLE for every failure.

    Args:
        server: which server.
        timeout_seconds: how long one command may take; the server's own limit if None.
        retries: whether a command is repeated whose connection was idle and had been closed.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        timeout_seconds: float | None = None,
        retries: bool = True,
    ) -> None:
        self._timeout_seconds = timeout_seconds or server.timeout_seconds
        self._client = client_of(server, self._timeout_seconds, retries=int(retries))
        self._tls, self._has_answered = server.tls, False
        self._replicas = server.acknowledge_replicas
        self._replicated = ReplicatedWrites(
            self._client, replicas=self._replicas, timeout_seconds=self._timeout_seconds
        )
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._abandoned: set[asyncio.Task[None]] = set()

    async def ask(self, *command: Argument) -> Any:  # noqa: ANN401 - as the command has it
        """The answer to a command, which is sent to the node that has its key."""
        return await self._in_time(self._ask(*command))

    async def read_log(self, base: str, *command: Argument) -> tuple[str, Any]:
        """The answer to a command on a partition's log, and the name of the node that gave it."""
        return await self._in_time(self._read_log(base, *command))

    async def run(self, script: Script, base: str, *arguments: Argument) -> Any:  # noqa: ANN401 - what the script returns
        """What a script returns, in one round trip."""
        return await self._in_time(self._run(script, base, *arguments))

    async def write(self, script: Script, base: str, *arguments: Argument) -> Any:  # noqa: ANN401 - what the script returns
        """What a script returns, once ``acknowledge_replicas`` replicas have what it wrote.

        A script that finds that another write came first returns None.

        Raises:
            AuthError: STORE_UNAVAILABLE: what was written is not known to be safe; or the write
                that came first may be this one, which the client has repeated.
        """
        answer, confirmed = await self._in_time(self._write(script, base, *arguments))
        if confirmed < self._replicas:
            detail = f"written, but confirmed by {confirmed} of {self._replicas} replicas"
            raise unavailable(detail, is_unanswered=answer is not None)
        return answer

    async def eviction_policy(self) -> str:
        """``maxmemory-policy`` of the server. A cluster's nodes are expected to agree."""
        info = await self.ask("INFO", "memory")
        if isinstance(info, dict) and "maxmemory_policy" not in info:
            info = next(iter(info.values()))  # a cluster answers by node
        return str(info.get("maxmemory_policy", ""))

    async def times(self) -> tuple[float, ...]:
        """The clock of each primary, in seconds since the epoch, without those that do not say it.
        By ``INFO``, as the user of the store needs no further permission for it."""
        nodes = await self._in_time(self._ask_primaries("INFO", "server"))
        found = (node.get("server_time_usec") for node in nodes)
        return tuple(it / 1e6 for it in found if isinstance(it, int))

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*self._abandoned)
        # One whose peer does not close in time is dropped all the same.
        with suppress(ClosingTimeoutError):
            await cast("Awaitable[None]", self._client.aclose())

    async def _ask(self, *command: Argument) -> Any:  # noqa: ANN401 - as the command has it
        return await self._client.execute_command(*command)

    async def _ask_primaries(self, *command: Argument) -> list[Any]:
        """The answer of each primary; a single server is one."""
        if not isinstance(self._client, RedisCluster):
            return [await self._ask(*command)]
        primaries = RedisCluster.PRIMARIES
        answers = await self._client.execute_command(*command, target_nodes=primaries)
        # Of a cluster of one primary, the answer itself.
        return [answers] if "redis_version" in answers else list(answers.values())

    async def _read_log(self, base: str, *command: Argument) -> tuple[str, Any]:
        if not isinstance(self._client, RedisCluster):
            return "", await self._ask(*command)
        await self._client.initialize()
        node = self._client.get_node_from_key(base)
        answer = await self._client.execute_command(*command, target_nodes=node)
        return node.name if node else "", answer

    async def _run(self, script: Script, base: str, *arguments: Argument) -> Any:  # noqa: ANN401 - what the script returns
        try:
            return await self._ask("EVALSHA", script.sha, 1, base, *arguments)
        except NoScriptError:
            return await self._ask("EVAL", script.source, 1, base, *arguments)

    async def _in_time(self, command: Coroutine[Any, Any, ResultT]) -> ResultT:
        # A task of its own, so that it can be abandoned: while it connects, the client swallows a
        # cancellation, and may then wait without end.
        attempts = copy_context()
        task = asyncio.create_task(self._in_slot(command), context=attempts)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            has_begun = getcoroutinestate(command) != CORO_CREATED
            self._abandon(task)
            raise self._unavailable(TimeoutError(), is_unanswered=has_begun)
        try:
            result = task.result()
        except FAILURES as error:
            is_lost = may_be_done(error, in_cluster=isinstance(self._client, RedisCluster))
            is_lost = is_lost or attempts.run(lost_answer.get)
            raise self._unavailable(error, is_unanswered=is_lost) from None
        self._has_answered = True
        return result

    def _unavailable(self, error: BaseException, *, is_unanswered: bool) -> AuthError:
        detail = described(error, tls=self._tls, has_answered=self._has_answered)
        return unavailable(detail, is_unanswered=is_unanswered)

    async def _write(self, script: Script, base: str, *arguments: Argument) -> tuple[Any, int]:
        """What a script returns, and how many replicas have confirmed it."""
        if self._replicas:
            answer, confirmed = await self._replicated.run(script, base, *arguments)
        else:
            answer, confirmed = await self._run(script, base, *arguments), 0
        if answer is None and lost_answer.get():
            raise unavailable("the answer to a write was lost", is_unanswered=True)
        return answer, confirmed

    async def _in_slot(self, command: Coroutine[Any, Any, ResultT]) -> ResultT:
        try:
            async with self._slots:
                return await command
        finally:
            command.close()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        ending = asyncio.create_task(end([task]))
        self._abandoned.add(ending)
        ending.add_done_callback(self._abandoned.discard)
