"""The demo's processes: started in order, watched, and stopped together."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Self

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.05


class ChildFailedError(Exception):
    """A process ended by itself or did not become ready; the message has the end of its log."""


class Children:
    """A context manager that owns the processes."""

    def __init__(self) -> None:
        self._running: list[tuple[str, subprocess.Popen[bytes], Path, IO[bytes]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Stop them, the last one started first."""
        for _, process, _, _ in reversed(self._running):
            process.terminate()
        for _, process, _, log in reversed(self._running):
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()

    def start(self, name: str, *arguments: str, log: Path) -> None:
        """Run ``python -m`` with ``arguments`` until it logs that it is listening.

        Raises:
            ChildFailedError: it does not.
        """
        handle = log.open("wb")
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches only the demo, which stops its children in order.
            start_new_session=True,
        )
        self._running.append((name, process, log, handle))
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while b"listening on" not in log.read_bytes():
            self.check()
            if time.monotonic() > deadline:
                raise ChildFailedError(f"{name} is not ready:\n{_tail(log)}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """
        Raises:
            ChildFailedError: one of them has ended.
        """
        for name, process, log, _ in self._running:
            if process.poll() is not None:
                raise ChildFailedError(
                    f"{name} ended with code {process.returncode}:\n{_tail(log)}"
                )


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
