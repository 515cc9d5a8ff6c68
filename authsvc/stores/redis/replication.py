"""Writes that replicas have to acknowledge: a script and WAIT, over one connection."""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import PipelineCommand
from redis.exceptions import MovedError, NoScriptError

from authsvc.stores.redis.failures import FAILURES, unavailable
from authsvc.stores.redis.scripts import Argument, Script

Call = tuple[Argument, ...]


class ReplicatedWrites:
    """Runs scripts whose writes are confirmed by replicas.

    WAIT counts the replicas that have its own connection's writes. So the script and WAIT go over
    one connection, and neither is ever repeated by the client: on another connection, WAIT would
    confirm a write that was not made there.

    Args:
        client: of the server.
        replicas: how many have to confirm.
        timeout_seconds: how long the script and WAIT may take together.
    """

    def __init__(
        self, client: Redis | RedisCluster, *, replicas: int, timeout_seconds: float
    ) -> None:
        self._client = client
        self._wait: Call = ("WAIT", replicas, round(500 * timeout_seconds))
        self._has_lost_node = False

    async def run(self, script: Script, base: str, *arguments: Argument) -> tuple[Any, int]:
        """What a script returns, and how many replicas have confirmed its writes.

        Raises:
            AuthError: STORE_UNAVAILABLE: no node has the partition's slot.
        """
        call: Call = ("EVALSHA", script.sha, 1, base, *arguments)
        while True:
            try:
                if isinstance(self._client, RedisCluster):
                    return await self._in_cluster(self._client, base, call)
                return await self._on_node(self._client, call)
            except NoScriptError:
                call = ("EVAL", script.source, 1, base, *arguments)
            except MovedError:
                await self._update_slots(base)

    async def _on_node(self, client: Redis, call: Call) -> tuple[Any, int]:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(*call)
        pipeline.execute_command(*self._wait)
        answer, confirmed = await pipeline.execute()
        return answer, int(confirmed)

    async def _in_cluster(self, client: RedisCluster, base: str, call: Call) -> tuple[Any, int]:
        await client.initialize()
        if self._has_lost_node:
            await self._update_slots(base)
        node = client.get_node_from_key(base)
        if node is None:
            raise unavailable("the cluster has no node for this slot")
        # Not the client's own pipeline: that one repeats each command that failed.
        commands = [PipelineCommand(0, *call), PipelineCommand(1, *self._wait)]
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

    async def _update_slots(self, base: str) -> None:
        """Any command that the client routes updates its map of slots."""
        await self._client.execute_command("EXISTS", base)
        self._has_lost_node = False
