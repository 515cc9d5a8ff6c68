"""Several worker processes on one port, so that a machine's cores all serve.

The supervisor serves nothing. It reserves the port, starts the workers, replaces a worker that
dies, and ends with the last of them. Workers share the port by SO_REUSEPORT (Linux), which spreads
connections over them, and not calls: a client with one connection is served by one worker until
``max_connection_age_seconds`` closes that connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from authsvc.common.hangup import reloading
from authsvc.common.listening import bound, port_of
from authsvc.common.settings import ConfigError
from authsvc.net.addresses import split, with_port
from authsvc.server.config import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
"""From the end of a worker to the start of its replacement. The pause doubles each time."""

STOP_MARGIN_SECONDS = 10.0
"""Time in which a worker has to end, beyond ``drain_seconds`` and ``grace_seconds``."""

STEADY_SECONDS = 10.0
"""After a worker has run so long, the pause before its replacement is the first one again."""


@dataclass(frozen=True, slots=True)
class Lifeline:
    """A worker's ends of two pipes to its supervisor, as file descriptors.

    Attributes:
        alive: becomes readable once the supervisor is gone.
        ready: the worker writes to it once it serves.
    """

    alive: int
    ready: int

    def report_ready(self) -> None:
        """Tell the supervisor that the worker serves."""
        os.write(self.ready, b"1")


async def supervise(settings: Settings, command: Sequence[str]) -> None:
    """Run ``settings.workers`` workers until SIGTERM or SIGINT; a second signal kills them.

    SIGHUP is passed on to those that serve.

    Args:
        settings: of authsvc.
        command: starts a worker; ``--lifeline ALIVE READY`` is added to it.

    Raises:
        ConfigError: the address is taken, or cannot be shared.
    """
    with _reserved(settings.listen) as address:
        environment = {**os.environ, "AUTHSVC_LISTEN": address}
        supervisor = _Supervisor(settings, command, environment)
        await supervisor.run(settings.workers, address)


@contextmanager
def _reserved(listen: str) -> Iterator[str]:
    """An address with a port that is this program's, until the end of the block. Its sockets do not
    listen, and get no connection."""
    # First without SO_REUSEPORT, so that it fails where another program listens with it.
    with bound(listen) as sockets:
        address = with_port(listen, port_of(sockets))
    with bound(address, shares_port=True):
        yield address


class _Supervisor:
    """Keeps workers running.

    Args:
        settings: of authsvc.
        command: starts a worker.
        environment: of the workers.
    """

    def __init__(
        self, settings: Settings, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._command = command
        self._environment = environment
        self._processes: set[asyncio.subprocess.Process] = set()
        self._serving: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._failed = False

    async def run(self, workers: int, address: str) -> None:
        """Run workers until a signal; ``address`` is for the log.

        Raises:
            ConfigError: a worker did not start.
        """
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._stop)
        # However the supervisor ends, the other end closes with it, and its workers stop.
        alive, held = os.pipe()
        ready = [asyncio.Event() for _ in range(workers)]
        try:
            with reloading(self._reload):
                async with asyncio.TaskGroup() as group:
                    for index, event in enumerate(ready):
                        group.create_task(self._keep(index, alive, event))
                    group.create_task(self._announce(ready, address))
        finally:
            os.close(alive)
            os.close(held)
        if self._failed:
            raise ConfigError("a worker would not start; it has logged why")

    async def _announce(self, ready: Sequence[asyncio.Event], address: str) -> None:
        for event in ready:
            await event.wait()
        if not self._stopping.is_set():
            extra = {"address": address, "workers": len(ready)}
            log.info("listening on %s with %d workers", address, len(ready), extra=extra)

    async def _keep(self, index: int, alive: int, ready: asyncio.Event) -> None:
        """Run a worker, and a replacement each time it ends."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._one(index, alive, ready)
            if self._stopping.is_set():
                break
            if not ready.is_set():
                # It has never served, and a replacement would have the same configuration.
                self._failed = True
                self._stop()
                break
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.error("a worker has ended with %d; its replacement starts in %.1f s", code, pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        ready.set()

    async def _one(self, index: int, alive: int, ready: asyncio.Event) -> int:
        """Run a worker until it ends; its exit code."""
        reader, writer = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--lifeline", str(alive), str(writer)),
                pass_fds=(alive, writer),
                env={**self._environment, **_metrics_of(index, self._settings)},
                # Ctrl-C at the terminal reaches the supervisor alone, which stops the workers.
                start_new_session=True,
            )
        finally:
            os.close(writer)
        self._processes.add(process)
        if self._stopping.is_set():
            _signal(process, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        loop.add_reader(reader, self._note_ready, reader, ready, process)
        try:
            return await process.wait()
        finally:
            loop.remove_reader(reader)
            os.close(reader)
            self._processes.discard(process)
            self._serving.discard(process)

    def _note_ready(
        self, reader: int, ready: asyncio.Event, process: asyncio.subprocess.Process
    ) -> None:
        """Read the worker's pipe: a byte says that it serves, the end of the pipe that it has
        ended."""
        asyncio.get_running_loop().remove_reader(reader)
        if os.read(reader, 1):
            self._serving.add(process)
            ready.set()

    def _reload(self) -> None:
        """Only workers that serve: one that starts reads its files anyway, and the signal could end
        it."""
        if self._stopping.is_set():
            return
        log.info("reload requested: passed on to %d workers", len(self._serving))
        for process in self._serving:
            _signal(process, signal.SIGHUP)

    def _stop(self) -> None:
        log.info("stopping")
        if self._stopping.is_set():
            self._kill()
            return
        self._stopping.set()
        for process in self._processes:
            _signal(process, signal.SIGTERM)
        settings = self._settings
        bound = settings.drain_seconds + settings.grace_seconds + STOP_MARGIN_SECONDS
        asyncio.get_running_loop().call_later(bound, self._kill)

    def _kill(self) -> None:
        for process in self._processes:
            log.warning("worker %d has not ended in time: it is killed", process.pid)
            _signal(process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal; one that has just ended does not keep it from the other workers."""
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _metrics_of(index: int, settings: Settings) -> dict[str, str]:
    """The variable of a worker's metrics address: the port of the first worker plus ``index``."""
    if settings.metrics is None:
        return {}
    first = split(settings.metrics.listen)[1]
    # Port 0 is any free one, for each worker.
    port = first + index if first else 0
    return {"AUTHSVC_METRICS__LISTEN": with_port(settings.metrics.listen, port)}


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command that starts a worker in the way this process was started."""
    warnings = [f"-W{option}" for option in sys.warnoptions]
    return [sys.executable, *warnings, "-m", "authsvc", *arguments]
