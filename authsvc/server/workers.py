"""Several processes on one port: each core of a machine gets a server of its own.

The supervisor serves nothing. It holds the port, so that it stays theirs while workers come and go,
starts the workers, starts again whichever dies, and ends with the last of them. Workers share the
port by SO_REUSEPORT (Linux): the system spreads connections over them, not calls, so a client with
one connection is served by one worker until that connection has had its time
(``max_connection_age_seconds``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from authsvc.common.settings import ConfigError
from authsvc.net.addresses import split, with_port
from authsvc.server.config import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
"""Between the death of a worker and the next one in its place; doubled each time."""

STOP_MARGIN_SECONDS = 10.0
"""What a worker gets to end in, beyond ``drain_seconds`` and ``grace_seconds``."""

STEADY_SECONDS = 10.0
"""A worker that has lasted so long dies for a reason of its own: the pause is short again."""


@dataclass(frozen=True, slots=True)
class Lifeline:
    """What ties a worker to its supervisor: two ends of pipes, by their numbers.

    Attributes:
        alive: can be read once the supervisor is gone.
        ready: where the worker says that it serves.
    """

    alive: int
    ready: int

    def report_ready(self) -> None:
        """Tell the supervisor that the worker serves."""
        os.write(self.ready, b"1")


async def supervise(settings: Settings, command: Sequence[str]) -> None:
    """Run ``settings.workers`` workers until SIGTERM or SIGINT; a second one ends them at once.

    Args:
        settings: how many, and where.
        command: what starts a worker; ``--lifeline ALIVE READY`` is added to it.

    Raises:
        ConfigError: the address is taken, or cannot be shared.
    """
    with closing(_reserve(settings.listen)) as reserved:
        address = with_port(settings.listen, reserved.getsockname()[1])
        environment = {**os.environ, "AUTHSVC_LISTEN": address}
        supervisor = _Supervisor(settings, command, environment)
        await supervisor.run(settings.workers, address)


def _reserve(listen: str) -> socket.socket:
    """A socket that is bound and does not listen: it gets no connection, and keeps others away."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            *split(listen), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Not shared yet: whoever listens there already is not one of ours.
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = probe.getsockname()
        reserved = socket.socket(family, kind)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as error:
        reason = f"{listen} cannot be listened on; is it taken? ({error.strerror})"
        raise ConfigError(f"listen: {reason}") from None
    return reserved


class _Supervisor:
    def __init__(
        self, settings: Settings, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._command = command
        self._environment = environment
        self._processes: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._failed = False

    async def run(self, workers: int, address: str) -> None:
        """
        Raises:
            ConfigError: a worker would not start.
        """
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._stop)
        # Whatever becomes of us, its other end is closed with us, and the workers notice.
        alive, held = os.pipe()
        ready = [asyncio.Event() for _ in range(workers)]
        try:
            async with asyncio.TaskGroup() as group:
                for index, event in enumerate(ready):
                    group.create_task(self._keep(index, alive, event))
                group.create_task(self._announce(ready, address))
        finally:
            os.close(alive)
            os.close(held)
        if self._failed:
            raise ConfigError("a worker would not start; it has said why")

    async def _announce(self, ready: Sequence[asyncio.Event], address: str) -> None:
        for event in ready:
            await event.wait()
        if not self._stopping.is_set():
            extra = {"address": address, "workers": len(ready)}
            log.info("listening on %s with %d workers", address, len(ready), extra=extra)

    async def _keep(self, index: int, alive: int, ready: asyncio.Event) -> None:
        """One worker after another, in one place."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._one(index, alive, ready)
            if self._stopping.is_set():
                break
            if not ready.is_set():
                # It has never served: so would no other with the same configuration.
                self._failed = True
                self._stop()
                break
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.error("a worker has ended with %d; another one follows in %.1f s", code, pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        ready.set()

    async def _one(self, index: int, alive: int, ready: asyncio.Event) -> int:
        """Run a worker; its exit code."""
        heard, told = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--lifeline", str(alive), str(told)),
                pass_fds=(alive, told),
                env={**self._environment, **_metrics_of(index, self._settings)},
                # A Ctrl-C at the terminal is for the supervisor, which tells the workers.
                start_new_session=True,
            )
        finally:
            os.close(told)
        self._processes.add(process)
        if self._stopping.is_set():
            process.terminate()
        loop = asyncio.get_running_loop()

        def listen() -> None:
            loop.remove_reader(heard)
            if os.read(heard, 1):
                ready.set()

        loop.add_reader(heard, listen)
        try:
            return await process.wait()
        finally:
            loop.remove_reader(heard)
            os.close(heard)
            self._processes.discard(process)

    def _stop(self) -> None:
        log.info("stopping")
        if self._stopping.is_set():
            self._kill()
            return
        self._stopping.set()
        for process in self._processes:
            process.terminate()
        settings = self._settings
        bound = settings.drain_seconds + settings.grace_seconds + STOP_MARGIN_SECONDS
        asyncio.get_running_loop().call_later(bound, self._kill)

    def _kill(self) -> None:
        for process in self._processes:
            log.warning("worker %d has not ended: it is killed", process.pid)
            process.kill()


def _metrics_of(index: int, settings: Settings) -> dict[str, str]:
    """Where a worker's metrics are: each has its own, on the ports from the first one's on."""
    if settings.metrics is None:
        return {}
    first = split(settings.metrics.listen)[1]
    # 0 is any free one, for each of them.
    port = first + index if first else 0
    return {"AUTHSVC_METRICS__LISTEN": with_port(settings.metrics.listen, port)}


def worker_command(arguments: Sequence[str]) -> list[str]:
    """What starts a worker as this process was started."""
    warnings = [f"-W{option}" for option in sys.warnoptions]
    return [sys.executable, *warnings, "-m", "authsvc", *arguments]
