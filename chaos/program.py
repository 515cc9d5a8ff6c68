"""A program of ours as a process, which can be started again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 60.0

_POLL_SECONDS = 0.02
_PAGE_KB = 4


class ProgramError(Exception):
    """A program did not start, or did not end."""


class Program:
    """A process that logs JSON lines, and says that it is listening.

    Args:
        name: for messages.
        log: its standard error is appended to this file.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: Process | None = None

    def command(self) -> Sequence[str]:
        """The arguments of Python."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            ProgramError: it does not.
        """
        log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the harness alone, which then ends it in order.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.command(),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._listening(self._process, log_start)
        except TimeoutError:
            raise ProgramError(f"{self.name} does not listen:\n{self.log_end()}") from None

    def log_end(self) -> str:
        """The end of what it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2_000:]

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.returncode is None

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)

    def pause(self) -> None:
        """Suspend its process: connections stay open, and nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume its process."""
        self.signal(signal.SIGCONT)

    def drain(self) -> None:
        """Ask it to stop after the calls in flight."""
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process."""
        self._running().send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; its exit code.

        Raises:
            ProgramError: it does not end in time.
        """
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await self._running().wait()
        except TimeoutError:
            raise ProgramError(f"{self.name} does not end:\n{self.log_end()}") from None

    async def end(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def resident_kb(self) -> int:
        """Its resident memory, in KB."""
        statm = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * _PAGE_KB

    def _running(self) -> Process:
        if self._process is None:
            raise ProgramError(f"{self.name} was not started")
        return self._process

    async def _listening(self, process: Process, log_start: int) -> None:
        while not _says_listening(self.log.read_bytes()[log_start:]):
            if process.returncode is not None:
                raise ProgramError(f"{self.name} has ended:\n{self.log_end()}")
            await asyncio.sleep(_POLL_SECONDS)


def _says_listening(log: bytes) -> bool:
    for line in log.splitlines():
        try:
            event = json.loads(line).get("event", "")
        except ValueError:
            continue
        if str(event).startswith("listening on"):
            return True
    return False
