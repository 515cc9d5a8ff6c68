"""The way to the server: one client for a single node, Sentinel and Cluster, and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode, PipelineCommand
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import MovedError, NoScriptError, RedisClusterException, RedisError

from authsvc.domain.errors import AuthError, Reason
from authsvc.stores.redis.scripts import Script
from authsvc.stores.redis.server import RedisServer

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What the client raises when the server cannot be reached or refuses."""

MAX_AT_ONCE = 64
"""Exchanges under way at once, and so connections; more wait for their turn."""

END_SECONDS = 10.0
"""How long to wait at most for a task that is cancelled again and again."""

ResultT = TypeVar("ResultT")

Argument = str | bytes | int | float


class _PasswordFile(CredentialProvider):
    def __init__(self, username: str, path: Path | None) -> None:
        self._username = username
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text(encoding="utf-8").strip() if self._path else ""
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()  # a small file, for each new connection


class Link:
    """Exchanges with the server. Raises ``AuthError`` STORE_UNAVAILABLE for every failure.

    Args:
        server: which.
        timeout_seconds: how long one exchange may take; the server's own if None.
        repeats: whether a connection that lay idle and was cut is replaced without a word.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        timeout_seconds: float | None = None,
        repeats: bool = True,
    ) -> None:
        self._server = server
        self._timeout_seconds = timeout_seconds or server.timeout_seconds
        self._client = _client(server, self._timeout_seconds, retries=int(repeats))
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._has_lost_node = False
        self._abandoned: set[asyncio.Task[None]] = set()

    async def ask(self, *command: Argument) -> Any:  # noqa: ANN401 - as the command has it
        """The answer to a command, which goes where its key is."""
        return await self._in_time(self._ask(*command))

    async def read_log(self, base: str, *command: Argument) -> tuple[str, Any]:
        """The answer to a command on a partition's log, and the node that gave it."""
        return await self._in_time(self._read_log(base, *command))

    async def run(self, script: Script, base: str, *arguments: Argument) -> Any:  # noqa: ANN401 - what the script returns
        """What a script says, in one round trip."""
        return await self._in_time(self._run(script, base, *arguments))

    async def write(self, script: Script, base: str, *arguments: Argument) -> Any:  # noqa: ANN401 - what the script returns
        """What a script says, once as many replicas as are demanded have what it wrote.

        Raises:
            AuthError: STORE_UNAVAILABLE: what was written is not known to be safe.
        """
        demanded = self._server.acknowledge_replicas
        if not demanded:
            return await self.run(script, base, *arguments)
        answer, confirmed = await self._in_time(self._write(script, base, *arguments))
        if confirmed < demanded:
            raise unavailable(f"written, but confirmed by {confirmed} of {demanded} replicas")
        return answer

    async def _ask(self, *command: Argument) -> Any:  # noqa: ANN401 - as the command has it
        return await self._client.execute_command(*command)

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

    async def _write(self, script: Script, base: str, *arguments: Argument) -> tuple[Any, int]:
        call: tuple[Argument, ...] = ("EVALSHA", script.sha, 1, base, *arguments)
        while True:
            try:
                return await self._confirmed(base, call)
            except NoScriptError:
                call = ("EVAL", script.source, 1, base, *arguments)
            except MovedError:
                await self._find_node(base)

    async def _confirmed(self, base: str, call: tuple[Argument, ...]) -> tuple[Any, int]:
        # WAIT speaks of its own connection's writes alone: both go over one, and neither is ever
        # repeated by itself. On another connection WAIT would confirm what was never written there.
        wait = ("WAIT", self._server.acknowledge_replicas, round(500 * self._timeout_seconds))
        if isinstance(self._client, RedisCluster):
            return await self._confirmed_in_cluster(self._client, base, call, wait)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command(*call)
        pipeline.execute_command(*wait)
        answer, confirmed = await pipeline.execute()
        return answer, int(confirmed)

    async def _confirmed_in_cluster(
        self,
        client: RedisCluster,
        base: str,
        call: tuple[Argument, ...],
        wait: tuple[Argument, ...],
    ) -> tuple[Any, int]:
        await client.initialize()
        if self._has_lost_node:
            await self._find_node(base)
        node = client.get_node_from_key(base)
        if node is None:
            raise unavailable("the cluster has no node for this slot")
        # Not the client's own pipeline: it repeats each command that failed, by itself.
        commands = [PipelineCommand(0, *call), PipelineCommand(1, *wait)]
        try:
            await node.execute_pipeline(commands)
        except FAILURES:
            self._has_lost_node = True
            raise
        for command in commands:
            if isinstance(command.result, Exception):
                self._has_lost_node = not isinstance(command.result, NoScriptError | MovedError)
                raise command.result
        answer, confirmed = (cast("Any", command.result) for command in commands)
        return answer, int(confirmed)

    async def _find_node(self, base: str) -> None:
        """Any routed command brings the map of the slots up to date."""
        await self._ask("EXISTS", base)
        self._has_lost_node = False

    async def _in_time(self, exchange: Coroutine[Any, Any, ResultT]) -> ResultT:
        # A task of its own, which can be left behind: while it connects, the client swallows a
        # cancellation, and may then wait for good.
        task = asyncio.create_task(self._in_turn(exchange))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise unavailable("no answer in time")
        try:
            return task.result()
        except FAILURES as error:
            raise unavailable(str(error) or type(error).__name__) from None

    async def _in_turn(self, exchange: Coroutine[Any, Any, ResultT]) -> ResultT:
        try:
            async with self._turns:
                return await exchange
        finally:
            exchange.close()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        ending = asyncio.create_task(end([task]))
        self._abandoned.add(ending)
        ending.add_done_callback(self._abandoned.discard)

    async def eviction_policy(self) -> str:
        """What the server does when its memory is full. A cluster's nodes are expected to agree."""
        info = await self.ask("INFO", "memory")
        if isinstance(info, dict) and "maxmemory_policy" not in info:
            info = next(iter(info.values()))  # a cluster answers by node
        return str(info.get("maxmemory_policy", ""))

    async def close(self) -> None:
        """Let go of the server."""
        await asyncio.gather(*self._abandoned)
        await cast("Awaitable[None]", self._client.aclose())


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, however often their client swallows it.

    One that does not end within ``END_SECONDS`` is left behind.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + END_SECONDS
    pending = set(tasks)
    while pending and loop.time() < deadline:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=0.05)
        for task in ended:
            if not task.cancelled():
                task.exception()  # nobody else asks for it


def unavailable(detail: str) -> AuthError:
    """What every method of the store raises when it cannot do its work."""
    return AuthError(Reason.STORE_UNAVAILABLE, f"the store: {detail}")


def _client(server: RedisServer, timeout_seconds: float, *, retries: int) -> Redis | RedisCluster:
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), retries),
        "protocol": 2,
    }
    if server.username or server.password_file:
        options["credential_provider"] = _PasswordFile(server.username, server.password_file)
    if server.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": str(server.ca_file) if server.ca_file else None,
            "ssl_certfile": str(server.certificate_file) if server.certificate_file else None,
            "ssl_keyfile": str(server.key_file) if server.key_file else None,
        }
    if server.mode == "cluster":
        nodes = [ClusterNode(host, port) for host, port in server.nodes]
        return RedisCluster(startup_nodes=nodes, **options)
    options["db"] = server.database
    if server.mode == "sentinel":
        sentinels = Sentinel(  # type: ignore[no-untyped-call] # redis has it so
            list(server.nodes), sentinel_kwargs=dict(options, db=0), **options
        )
        return cast("Redis", sentinels.master_for(server.service))
    if server.unix_socket:
        return Redis(unix_socket_path=str(server.unix_socket), **options)
    ((host, port),) = server.nodes
    return Redis(host=host, port=port, **options)
