"""Several replicas of authsvc over one Valkey, and what Valkey counts of their commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from redis import Redis

from bench.population import Population
from bench.processes import ServerProcess, authsvc_server
from bench.stage import NO_LIMITS, configuration
from chaos.valkey.server import Valkey, single

_FEED_COMMANDS = {"xread", "xrevrange"}

_COUNTED = {
    *("eval", "evalsha", "get", "set", "del", "zadd", "zrem", "zcard", "zrange", "sadd", "srem"),
    *("xadd", "hget", "hset", "hgetall", "hmget", "pexpire"),
}
"""Operations on records, not-befores and the log."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas over one store.

    Attributes:
        valkey: the store.
        replicas: all of them.
        population: whose sessions they are asked about.
    """

    valkey: Valkey
    replicas: Sequence[ServerProcess]
    population: Population


@dataclass(frozen=True, slots=True)
class Counters:
    """What has happened so far, over all replicas.

    Attributes:
        operations: of the server, those inside of scripts included, reads of the feed apart.
        reads: of the feed.
        feed_bytes: that Valkey sent for the feed.
        lookups: records that were read by themselves.
        scripts: writes.
        valkey_seconds: CPU time of the server.
        memory_bytes: that it uses.
        cpu_seconds: of each replica.
    """

    operations: int
    reads: int
    feed_bytes: int
    lookups: int
    scripts: int
    valkey_seconds: float
    memory_bytes: int
    cpu_seconds: tuple[float, ...]

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        """Count now."""
        with fleet.valkey.client() as client:
            return cls._of(client, fleet)

    @classmethod
    def _of(cls, client: Redis, fleet: Fleet) -> Self:
        connections: list[dict[str, Any]] = list(client.client_list())
        feed = [it for it in connections if it["cmd"] in _FEED_COMMANDS]
        info: dict[str, Any] = dict(client.info("all"))
        scripts = _calls(info, "evalsha") + _calls(info, "eval")
        return cls(
            operations=sum(
                int(stats["calls"])
                for name, stats in info.items()
                if name.startswith("cmdstat_") and name.removeprefix("cmdstat_") in _COUNTED
            ),
            reads=sum(int(it["tot-cmds"]) for it in feed),
            feed_bytes=sum(int(it["tot-net-out"]) for it in feed),
            # A script that writes a record reads it as well.
            lookups=_calls(info, "get") - scripts,
            scripts=scripts,
            valkey_seconds=float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
            memory_bytes=int(info["used_memory_dataset"]),
            cpu_seconds=tuple(replica.cpu_seconds() for replica in fleet.replicas),
        )

    def since(self, before: Counters) -> Counters:
        """What has happened since then."""
        return Counters(
            self.operations - before.operations,
            self.reads - before.reads,
            self.feed_bytes - before.feed_bytes,
            self.lookups - before.lookups,
            self.scripts - before.scripts,
            self.valkey_seconds - before.valkey_seconds,
            self.memory_bytes - before.memory_bytes,
            tuple(a - b for a, b in zip(self.cpu_seconds, before.cpu_seconds, strict=True)),
        )


def _calls(info: dict[str, Any], command: str) -> int:
    return int(info.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@asynccontextmanager
async def fleet(
    folder: Path, population: Population, replicas: int, *, settings: str = ""
) -> AsyncIterator[Fleet]:
    """So many replicas over a Valkey that makes each write durable, ended on the way out.

    Args:
        folder: for configurations, logs and the store; made if there is none.
        population: whose issuer and resource they know.
        replicas: how many.
        settings: further settings of each.

    Raises:
        bench.processes.ServerError: a replica did not start.
        chaos.valkey.server.ValkeyError: Valkey did not.
    """
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(single(folder))
        store = f'kind = "redis"\nurl = "{valkey.url}"'
        running = []
        for number in range(replicas):
            place = folder / f"replica-{number}"
            config = configuration(
                place, population, None, settings=settings, store=store, tables=NO_LIMITS
            )
            running.append(await stack.enter_async_context(authsvc_server(config, place / "log")))
        yield Fleet(valkey, running, population)
