"""A program of somebody else's: what it prints says when it is ready."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.bounds import TIMEOUT_SECONDS


class Program:
    """A child process, beginning to start.

    Args:
        arguments: its command line.
        environment: what is added to that of the tests.
        folder: where it runs.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        self._name = " ".join(map(str, arguments))
        self.process = subprocess.Popen(
            arguments,
            env=os.environ | environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """The last of so many matches in its output, which is read no further."""
        assert self.process.stdout is not None
        too_late = threading.Timer(TIMEOUT_SECONDS, self.process.kill)
        too_late.start()
        said = ""
        try:
            while len(found := list(re.finditer(pattern, said))) < times:
                line = self.process.stdout.readline()
                assert line, f"{self._name} ended:\n{said}"
                said += line
        finally:
            too_late.cancel()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return found[-1]

    def end(self) -> int:
        """End it, by force if it does not of itself. A second time does nothing.

        Returns:
            Its exit code.
        """
        self.process.terminate()
        try:
            return self.process.wait(TIMEOUT_SECONDS)
        finally:
            self.process.kill()
            if self.process.stdout and not self.process.stdout.closed:
                self.process.communicate()
