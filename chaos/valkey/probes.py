"""Questions to running servers, and waiting for an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import RedisError

from chaos.valkey.server import HOST, START_SECONDS, Valkey, ValkeyError

_POLL_SECONDS = 0.01

T = TypeVar("T")


def eventually(what: Callable[[], T | None], name: str, seconds: float = START_SECONDS) -> T:
    """Poll until ``what`` returns a true value; an error of the server counts as false.

    Raises:
        ValkeyError: it does not in time.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except (RedisError, OSError) as error:
            last = error
        time.sleep(_POLL_SECONDS)
    raise ValkeyError(f"not in {seconds:g} s: {name}" + (f" ({last})" if last else ""))


def is_primary(server: Valkey) -> bool:
    """Whether it takes writes now."""
    return info(server, "replication").get("role") == "master"


def wait_in_sync(replica: Valkey, primary: Valkey) -> None:
    """Wait until a server follows another and has all that it has.

    Raises:
        ValkeyError: it does not in time.
    """
    eventually(lambda: follows(replica, primary) and in_sync(replica), "a replica in sync")


def hang_up_on_replicas(primary: Valkey) -> None:
    """Close a server's connections to its replicas. Writes that are not sent yet are lost."""
    ask(primary, "CLIENT", "KILL", "TYPE", "replica")


def follow(replica: Valkey, primary: Valkey) -> None:
    """Make a server that is no cluster's the replica of another, and wait until it is in sync.

    Raises:
        ValkeyError: it does not come about in time.
    """
    ask(replica, "REPLICAOF", HOST, primary.port)
    wait_in_sync(replica, primary)


def ask(server: Valkey, *command: str | int) -> Any:  # noqa: ANN401 - as the command has it
    """What a server answers to a command; within a second, or ``redis.TimeoutError``."""
    # One attempt: a server that is paused answers neither the first nor the second.
    with server.client(retry=None, socket_timeout=1.0) as client:
        return client.execute_command(*command)


def info(server: Valkey, section: str) -> dict[str, Any]:
    """A section of ``INFO``; empty where it is no table."""
    answer = ask(server, "INFO", section)
    return answer if isinstance(answer, dict) else {}


def in_sync(replica: Valkey) -> bool:
    """Whether a replica is connected to its primary and has all that it has."""
    return info(replica, "replication").get("master_link_status") == "up"


def raw(node: Valkey, command: str) -> object:
    """What redis-py would parse, as the server wrote it."""
    with node.client() as client:
        client.response_callbacks.clear()
        return client.execute_command(*command.split())


def owns(node: Valkey, key: str) -> bool:
    """Whether a node is the primary that answers for a key."""
    try:
        ask(node, "GET", key)
        return is_primary(node)
    except (RedisError, OSError, ValkeyError):
        return False


def follows(node: Valkey, primary: Valkey) -> bool:
    """Whether a node is a replica of another."""
    try:
        replication = info(node, "replication")
    except (RedisError, OSError, ValkeyError):
        return False
    return replication.get("role") == "slave" and replication.get("master_port") == primary.port
