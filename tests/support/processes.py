"""Real child processes: started, listened to, and always ended."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]


class Process:
    """A child whose log, JSON on standard error, is collected as it comes."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """All that it has written so far."""
        while not self._lines.empty() and self._take(0) is not None:
            pass
        return "".join(self._seen)

    def wait_for(self, event: str, timeout_seconds: float) -> Mapping[str, Any]:
        """The first log line whose event contains ``event``, seen or yet to come."""
        deadline = time.monotonic() + timeout_seconds
        for line in self._seen:
            if (found := _event(line, event)) is not None:
                return found
        while line_or_end := self._take(deadline - time.monotonic()):
            if (found := _event(line_or_end, event)) is not None:
                return found
        raise AssertionError(f"it ended without {event!r}:\n{self.output}")

    def kill(self, signal_number: int) -> None:
        """Send a signal."""
        self._popen.send_signal(signal_number)

    def wait(self, timeout_seconds: float) -> int:
        """Its exit code, once it has ended and all its output is read."""
        code = self._popen.wait(timeout_seconds)
        self._reader.join(timeout_seconds)
        return code

    def end(self) -> None:
        """End it, gracefully if it will."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait(TIMEOUT_SECONDS)
        self._reader.join(TIMEOUT_SECONDS)
        if self._popen.stderr:
            self._popen.stderr.close()

    def _take(self, timeout_seconds: float) -> str | None:
        try:
            line = self._lines.get(timeout=max(timeout_seconds, 0.001))
        except queue.Empty:
            seen = "".join(self._seen)
            raise AssertionError(f"not in time:\n{seen}") from None
        if line is None:
            self._lines.put(None)
            return None
        self._seen.append(line)
        return line

    def _read(self) -> None:
        if self._popen.stderr is None:
            raise AssertionError("standard error is a pipe")
        for line in self._popen.stderr:
            self._lines.put(line)
        self._lines.put(None)


@contextmanager
def spawn(module: str, *arguments: str, cwd: Path = ROOT) -> Iterator[Process]:
    """Run ``python -m module`` in a folder and end it on the way out."""
    popen = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    process = Process(popen)
    try:
        yield process
    finally:
        process.end()


def _event(line: str, event: str) -> Mapping[str, Any] | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if isinstance(fields, dict) and event in str(fields.get("event")):
        return fields
    return None


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do, and report by no event."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
