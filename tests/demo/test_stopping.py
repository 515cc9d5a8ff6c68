"""A signal ends the demo, whenever it comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]

SIGNALS = 2_000

WAITING = f"""
import signal
from demo.stopping import Stop

class Counting(Stop):
    count = 0

    def _set(self, *_):
        self.count += 1
        super()._set()
        self.is_set = self.count >= {SIGNALS}

stop = Counting([signal.SIGALRM])
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
while not stop.wait(1e-6):
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
print(stop.count >= {SIGNALS})
"""


def test_a_signal_that_comes_during_a_wait_ends_it() -> None:
    command = [sys.executable, "-c", WAITING]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")
