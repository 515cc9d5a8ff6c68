"""``python -m chaos.replica``: a replica of authsvc whose clock can be stepped while it runs.

Nothing but the clock differs from ``python -m authsvc serve``. Its offset, in seconds, is read from
a file at the start and at each SIGUSR1.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import click
import uvloop

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.telemetry import logs


class SteppedClock:
    """The machine's clock with an offset.

    Args:
        path: the file of the offset in seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_seconds = 0.0
        self.step()

    def __call__(self) -> float:
        return time.time() + self._offset_seconds

    def step(self) -> None:
        """Read the offset again."""
        self._offset_seconds = float(self._path.read_text(encoding="ascii"))


async def serve(settings: Settings, clock: SteppedClock) -> None:
    """As ``authsvc.server.running.serve``, with that clock."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, clock.step)
    async with running(settings, clock=clock):
        await stop.wait()


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--offset", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(config: Path, offset: Path) -> None:
    """Serve AuthService with a clock that can be stepped."""
    settings = load(Settings, config)
    logs.configure(settings.log_level, settings.log_format)
    uvloop.run(serve(settings, SteppedClock(offset)))


if __name__ == "__main__":
    main()
